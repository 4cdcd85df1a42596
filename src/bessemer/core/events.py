"""Server-sent events, as model servers send them: the data of each event (WHATWG HTML, section 9.2.6)."""

from bessemer.core.errors import ProviderError

_MAX_EVENT_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class EventParser:
    """Takes bytes cut anywhere and gives the data of whole events; lines end in LF, CR or CRLF, a BOM is skipped.

    Comments and other fields are skipped, and an event that the end of the stream cuts off, as the standard says.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, piece: bytes, *, last: bool = False) -> list[bytes]:
        """Return the data of the events that this piece completes. Raises ProviderError above 16 MiB an event.

        `last`: the body is whole and no more comes, so that an event needs no empty line after it.
        """
        text = self._pending + piece
        if not self._begun:
            if len(text) < len(_BOM) and _BOM.startswith(text) and not last:
                self._pending = text
                return []
            self._begun = True
            text = text.removeprefix(_BOM)
        held = b""
        if text.endswith(b"\r") and not last:  # the LF of a CRLF may still come
            text, held = text[:-1], b"\r"
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._pending = rest + held
        self._size += len(piece)
        if self._size > _MAX_EVENT_BYTES:
            raise ProviderError("The server sent an event above 16 MiB.")
        events = [event for line in lines if (event := self._line(line)) is not None]
        if last:
            self._line(self._pending.rstrip(b"\r"))
            self._pending = b""
            if (event := self._line(b"")) is not None:
                events.append(event)
        return events

    def _line(self, line: bytes) -> bytes | None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            self._data.append(b"")
        elif not line and self._data:
            event = b"\n".join(self._data)
            self._data, self._size = [], 0
            return event
        elif not line:
            self._size = 0
        return None
