"""Server-sent events, as far as model servers use them: the data of each event (WHATWG HTML, section 9.2.6)."""

from collections.abc import AsyncIterator

from bessemer.core.errors import ProviderError

_MAX_EVENT_BYTES = 16 * 1024 * 1024


async def server_sent_data(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the data of each event from byte pieces cut anywhere; comments and other fields are skipped.

    An event that the end of the stream cuts off is dropped, as the standard says. Raises ProviderError above 16 MiB.
    """
    pending = b""
    data: list[bytes] = []
    size = 0
    async for piece in pieces:
        *lines, pending = (pending + piece).split(b"\n")
        size += len(piece)
        if size > _MAX_EVENT_BYTES:
            raise ProviderError("The upstream sent an event above 16 MiB.", retryable=False)
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data, size = [], len(pending)
