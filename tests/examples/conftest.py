"""The scripted upstream that the server's fixture wants; the examples have one of their own."""

from tests.live import upstream

__all__ = ["upstream"]
