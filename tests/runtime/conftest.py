"""The running server that these tests share."""

from tests.live import server, upstream

__all__ = ["server", "upstream"]
