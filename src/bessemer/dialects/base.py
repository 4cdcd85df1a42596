"""What a wire format is: one file that reads a request into nouns and writes answers, events and errors from nouns.

A dialect knows no route, provider, record or server. How many answers one request wants is its own matter: it makes a
conversation of each, and gets as many replies.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from bessemer.core.conversation import Conversation
from bessemer.core.errors import BessemerError
from bessemer.core.reply import Reply, ReplyHead, ReplyPiece
from bessemer.core.types import JSON


class EventWriter(Protocol):
    """Writes the server-sent events of one request's answers, each ready to be sent; no bytes: nothing to send.

    `index` says which of the request's conversations a call is about; those of several come in any order.
    """

    def opening(self, index: int, head: ReplyHead) -> bytes:
        """Write what comes before the first piece of an answer."""

    def piece(self, index: int, piece: ReplyPiece) -> bytes:
        """Write a piece of an answer."""

    def closing(self, index: int, reply: Reply) -> bytes:
        """Write what comes after the last piece of an answer."""

    def end(self) -> bytes:
        """Write what comes after the last answer."""

    def failure(self, error: BessemerError) -> bytes:
        """Write the one event that ends a stream which has broken: too late for a status."""


class WireRequest(Protocol):
    """A request that has been read and checked."""

    @property
    def conversations(self) -> Sequence[Conversation]:
        """What is asked: one for each answer that is wanted."""

    def whole(self, replies: Sequence[Reply]) -> Any:
        """Return the body of the answer, as what `msgspec.json` encodes; a reply for each conversation."""

    def events(self) -> EventWriter | None:
        """Return what writes the answers as events, where they are wanted as they come; None: they are wanted whole."""


class Dialect(Protocol):
    """One wire format."""

    @property
    def name(self) -> str:
        """Marks what was sent in it; a provider whose upstream speaks it says so (`ProviderSettings.dialects`)."""

    @property
    def path(self) -> str:
        """Where it is spoken: POST."""

    @property
    def key_header(self) -> str:
        """The header in which its clients send their key, in lower case, where it is not `authorization`'s bearer."""

    @property
    def streams(self) -> bool:
        """Whether its answers can be wanted as they come."""

    @property
    def takes(self) -> type[msgspec.Struct]:
        """The type of a request, for the description of the API."""

    @property
    def gives(self) -> type[msgspec.Struct]:
        """The type of a whole answer, for the description of the API."""

    def parse(self, body: bytes) -> WireRequest:
        """Read a request. Raises InvalidRequest that names the field and the remedy. Time is linear in the bytes."""

    def error(self, error: BessemerError) -> JSON:
        """Return the body of an error."""
