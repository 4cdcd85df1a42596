"""Property tests are judged by what they find, not by how busy the machine is."""

from hypothesis import settings

settings.register_profile("unhurried")
settings.load_profile("unhurried")
