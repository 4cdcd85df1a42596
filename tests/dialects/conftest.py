"""The scripted upstream of the server's tests."""

from tests.server.live import upstream

__all__ = ["upstream"]
