"""The scripted upstream of the server's tests."""

from tests.live import upstream

__all__ = ["upstream"]
