"""Change notices: how a process hears that another one has changed keys, routes or versions.

A change counts itself in its own transaction (`revisions.bump`); how others hear of it is a back end's matter.
"""

from collections.abc import Callable
from typing import Protocol


class ChangeNotices(Protocol):
    """Calls whoever subscribed, in a thread of its own, soon after each change.

    While the database is down nobody is called, so that memory keeps what it saw last; afterwards whatever changed
    meanwhile is told.
    """

    def subscribe(self, name: str, follow: Callable[[], object]) -> None:
        """Call `follow` when something counted as `name` in `revisions` has changed, and once at the start.

        Several changes may be one call. Where it raises, it is called again, and holds up no other subscriber. Before
        `start` alone.
        """

    def start(self) -> None:
        """Begin to call."""

    def close(self) -> None:
        """Stop, without waiting for a database that does not answer."""
