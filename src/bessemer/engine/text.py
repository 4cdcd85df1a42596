"""Token bytes become text that may be released: whole characters only, and never a part of a stop text."""

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer as its tokens arrive."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._released: list[str] = []
        self.stopped = False
        """A stop text has appeared; nothing more is released."""

    @property
    def text(self) -> str:
        """All released text."""
        return "".join(self._released)

    def push(self, data: bytes) -> str:
        """Add a token's bytes; return the text that is released by it."""
        return self._release(self._decoder.decode(data))

    def finish(self) -> str:
        """Return what is still held back; an unfinished character becomes U+FFFD."""
        released = self._release(self._decoder.decode(b"", final=True))
        if self.stopped:
            return released
        rest, self._held = self._held, ""
        self._released.append(rest)
        return released + rest

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if found:
            self.stopped = True
            cut = min(found)
        else:
            cut = len(self._held) - _open_part(self._held, self._stops)
        released, self._held = self._held[:cut], "" if found else self._held[cut:]
        if released:
            self._released.append(released)
        return released


def _open_part(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest end of `text` that begins a stop text."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
