"""Another journal: a log on a server, which outlives the process that writes it; a server that is down refuses."""

from collections.abc import Sequence

from bessemer.core.errors import StoreError
from bessemer.store.journal import Line, PreparedLine


class LogServer:
    """Holds what its clients have not released."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.rejected: list[bytes] = []
        self.up = True


class RemoteJournal:
    """A `Journal` on such a server."""

    place = "log://server"

    def __init__(self, server: LogServer) -> None:
        self._server = server
        self._waiting, server.lines = server.lines, []
        self._own: list[tuple[int, bytes]] = []
        self._given = 0
        self._last = 0

    @property
    def behind(self) -> bool:
        return bool(self._waiting)

    def prepare(self, content: bytes) -> PreparedLine:
        return PreparedLine(content)

    def append(self, line: PreparedLine) -> int:
        if not self._server.up:
            raise StoreError("The log server does not answer.")
        self._last += 1
        self._own.append((self._last, line.content))
        return self._last

    def sync(self) -> None:
        if not self._server.up:
            raise StoreError("The log server does not answer.")

    def has_room(self) -> bool:
        return self._server.up

    def release(self, number: int) -> None:
        self._own = [line for line in self._own if line[0] > number]

    def defer(self) -> None:
        self._waiting += [content for _, content in self._own]
        self._own = []

    def replay(self, limit: int) -> Sequence[Line]:
        self._given = self._given or min(limit, len(self._waiting))
        return [Line(content, genuine=True) for content in self._waiting[: self._given]]

    def replayed(self) -> None:
        del self._waiting[: self._given]
        self._given = 0

    def reject(self, content: bytes) -> None:
        self._server.rejected.append(content)

    def forget(self, ids: Sequence[str]) -> None:
        self._server.rejected = [one for one in self._server.rejected if not any(id_.encode() in one for id_ in ids)]

    def close(self) -> None:
        self._server.lines = self._waiting + [content for _, content in self._own]
