"""The running server that these tests share."""

from tests.server.live import server, upstream

__all__ = ["server", "upstream"]
