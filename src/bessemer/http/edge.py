"""The HTTP edge: typed bodies and queries in, msgspec JSON and server-sent events out.

Decides how a body becomes a type and a value becomes bytes, and cancels work whose client has left. Knows no endpoint.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache, partial
from typing import Annotated, Any, BinaryIO, Final, NamedTuple, Protocol, TypeVar, get_args, get_origin

import msgspec
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from bessemer.core.access import Action, Principal, Resource, ResourceKind, project
from bessemer.core.decoding import decode
from bessemer.core.errors import Forbidden, InvalidRequest, NotFound, PayloadTooLarge
from bessemer.core.invalid import invalid
from bessemer.core.openai import StrictWire
from bessemer.core.pieces import in_pieces
from bessemer.core.types import JSON
from bessemer.flywheel.services import FlywheelServices
from bessemer.gateway.pipeline import on_behalf_of
from bessemer.http.services import ApiServices
from bessemer.registry.catalog import Catalog
from bessemer.store import audit
from bessemer.store.database import Database

T = TypeVar("T")
Query = TypeVar("Query", bound=msgspec.Struct)
_Body = TypeVar("_Body", bound=msgspec.Struct)

encode = msgspec.json.Encoder().encode
_SMALL: Final = 64 * 1024
"""Bodies above this many bytes are decoded off the event loop."""
_PIECE: Final = 256 * 1024
"""Bytes of a file that are in memory while it is sent."""
_WATCHED_AFTER_S: Final = 0.05
_JSON_TYPE: Final = (b"content-type", b"application/json")
_PAGE_HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_END: Final = {"type": "http.response.body", "body": b"", "more_body": False}


class ClosableEvents(Protocol):
    """Events as bytes, to be closed when nobody wants them any more."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the events."""

    async def aclose(self) -> None:
        """Stop making events and free what is behind them."""


class ClientGone(Exception):
    """The client closed the connection before its answer was complete."""


class JSONResponse:
    """A complete JSON answer; `value` is anything msgspec encodes."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, value: Any, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.body = encode(value)
        self.status = status
        self.headers = headers

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send status, headers and body."""
        length = (b"content-length", str(len(self.body)).encode())
        await send(
            {"type": "http.response.start", "status": self.status, "headers": [_JSON_TYPE, length, *self.headers]}
        )
        await send({"type": "http.response.body", "body": self.body})


class BytesResponse(JSONResponse):
    """A complete answer of another media type."""

    __slots__ = ("media_type",)

    def __init__(self, body: bytes, media_type: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.body = body
        self.status = 200
        self.headers = headers
        self.media_type = media_type

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send status, headers and body."""
        headers = [(b"content-type", self.media_type.encode()), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": [*headers, *self.headers]})
        await send({"type": "http.response.body", "body": self.body})


class PageResponse(BytesResponse):
    """A page for people, under a policy by which no script runs, nothing is fetched and nobody frames it."""

    __slots__ = ()

    def __init__(self, page: str) -> None:
        super().__init__(page.encode(), "text/html; charset=utf-8", _PAGE_HEADERS)


class OpenedResponse:
    """A complete answer that is read from an open file while it is sent, piece by piece; the file is closed then."""

    __slots__ = ("media_type", "source")

    def __init__(self, source: BinaryIO, media_type: str) -> None:
        self.source = source
        self.media_type = media_type

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send status, headers and body."""
        with self.source:
            length = str(self.source.seek(0, os.SEEK_END)).encode()
            self.source.seek(0)
            headers = [(b"content-type", self.media_type.encode()), (b"content-length", length)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while piece := await asyncio.to_thread(self.source.read, _PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send(_END)


class EventStream:
    """Server-sent events, given as ready bytes by a generator that has already produced its first one inside.

    When the client leaves, the generator is closed at once, which cancels the provider behind it.
    """

    __slots__ = ("events", "headers")

    def __init__(self, events: ClosableEvents, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.events = events
        self.headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            *headers,
        ]

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until they end or the client leaves. Raises ClientGone in the latter case."""
        async with aclosing(self.events):
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await while_connected(receive, self._pump(send))

    async def _pump(self, send: Send) -> None:
        async for event in self.events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send(_END)


async def written(make: Callable[[], Any]) -> JSONResponse:
    """Return an answer that may be long: it is made and written off the event loop, its long texts in pieces."""
    return await asyncio.to_thread(lambda: JSONResponse(in_pieces(make())))


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, but cancel it when the client disconnects. The request body must have been read already.

    Nobody looks for the client before `_WATCHED_AFTER_S`: to begin looking takes longer than much of a quick answer.
    Raises ClientGone when the client left first.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None, "whatever awaits has a task"
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    timer = loop.call_later(_WATCHED_AFTER_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or task.uncancel():
            raise
        raise ClientGone from None
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()


class Limit(NamedTuple):
    """The largest body of a request, and what says so."""

    size: int
    """Bytes."""
    remedy: str = "send less"

    def exceeded(self) -> PayloadTooLarge:
        """Return what a client is told whose body is larger."""
        return PayloadTooLarge(f"The request body exceeds {self.size} bytes; {self.remedy}.")

    def check(self, declared: bytes) -> None:
        """Raise PayloadTooLarge when a Content-Length says that the body is larger."""
        # A number of more digits than this one is larger, and may be too long to be read.
        if declared.isdigit() and (len(declared) > 18 or int(declared) > self.size):
            raise self.exceeded()

    def on(self, receive: Receive) -> Receive:
        """Count body bytes while they arrive, for bodies of undeclared or false length."""
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self.size:
                    raise self.exceeded()
            return message

        return limited


@cache
def _decoding() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="bodies")


class NoQuery(StrictWire):
    """Of an endpoint that takes no query parameters."""


@cache
def _fields(kind: type[msgspec.Struct]) -> Mapping[str, bool]:
    """Return the names of the fields, and which are dictionaries; asked with every request, so worked out once."""
    bare = {
        field.name: get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type
        for field in msgspec.structs.fields(kind)
    }
    return {name: get_origin(type_) is dict for name, type_ in bare.items()}


def read_query(kind: type[Query], parameters: Sequence[tuple[str, str]]) -> Query:
    """Return query parameters as a struct. `name[key]=value` is an item of a field that is a dictionary.

    Raises InvalidRequest that names a parameter which is unknown, wrong, or given twice.
    """
    fields = _fields(kind)
    values: dict[str, Any] = {}
    for name, value in parameters:
        field, opened, rest = name.partition("[")
        keyed = fields.get(field, False)
        if field not in fields or keyed is not (bool(opened) and rest.endswith("]")):
            raise InvalidRequest(f"Unknown parameter: {name!r}. Remove it.", param=name, code="unknown_parameter")
        target, key = (values.setdefault(field, {}), rest[:-1]) if keyed else (values, field)
        if key in target:
            raise InvalidRequest(f"{name!r} is given twice; give it once.", param=name)
        if "\0" in value:  # PostgreSQL's texts hold none, so that nothing can be found by it
            raise InvalidRequest(f"{name!r} holds a NUL character; leave it out.", param=name)
        target[key] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None


def unknown_name(name: str) -> NotFound:
    """Return what a caller is told of a name that is not for it, whether or not it exists."""
    return NotFound(f"There is no {name!r} that this key may ask for.", param="model")


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request on its way to a handler."""

    services: ApiServices
    request: Request
    principal: Principal
    given: msgspec.Struct
    """What the query string says."""
    takes: type[msgspec.Struct] | None
    """The type of the endpoint's body."""
    item: object = None
    """The row that the path names, where the endpoint finds one."""

    def audit(self, action: str, subject: str, detail: JSON | None = None) -> None:
        """Append who did what to what. Call it in the `Database.transaction` of the change: both stand, or neither."""
        audit.append(self.database, self.principal.key_id, action, subject, detail)

    def path(self, name: str) -> str:
        """Return a path parameter."""
        value = self.request.path_params[name]
        assert isinstance(value, str)
        return value

    @property
    def database(self) -> Database:
        """The database as the caller's project sees it: the only one that handlers of a project's rows use."""
        return self.services.database.within(self.principal.project_id)

    @property
    def catalog(self) -> Catalog:
        """The catalog as the caller's project sees it."""
        return self.services.catalog.seen_by(self.principal)

    @property
    def flywheel(self) -> FlywheelServices:
        """The flywheel's parts as the caller's project sees them; graders' judges are asked on the caller's behalf."""
        who = self.principal
        return self.services.flywheel.asked_by(on_behalf_of(who.key_id, who.project_id, who.models))

    def found(self, kind: type[T]) -> T:
        """Return the row that the path names, which the endpoint's finder has found."""
        assert isinstance(self.item, kind), "the table and the handler name the same row"
        return self.item

    def resource(self, kind: ResourceKind, name: str, made_by: str | None = None) -> Resource:
        """Return one thing of the caller's project as what an action is done to."""
        return Resource(kind=kind, id=name, project_id=self.principal.project_id, made_by=made_by)

    @property
    def project(self) -> Resource:
        """The caller's project as what an action is done to."""
        return project(self.principal.project_id)

    def may(self, action: Action, resource: Resource) -> bool:
        """Whether the caller may do something."""
        return self.services.policy.decide(self.principal, action, resource).allowed

    def forbidden(self, action: Action, resource: Resource, message: str, *, param: str | None = None) -> Forbidden:
        """Return what the caller is told who may not do something; the trail keeps by which rules."""
        error = Forbidden(message, param=param)
        error.action = action.value
        error.rules = self.services.policy.decide(self.principal, action, resource).reasons
        return error

    def sees(self, kind: ResourceKind, name: str) -> bool:
        """Whether something of the project is for the caller to see."""
        return self.may(Action.OBJECT_VIEW, self.resource(kind, name))

    def check_named(self, action: Action, *names: str) -> None:
        """Raise NotFound for the name of a route, model, alias or version that the caller may not do something to."""
        for name in names:
            if not self.may(action, self.resource(ResourceKind.ROUTE, name)):
                raise unknown_name(name)

    async def body(self, kind: type[_Body]) -> _Body:
        """Return the JSON body as the type that the table of endpoints names for it. Raises InvalidRequest."""
        assert kind is self.takes, "the table and the handler name the same body"
        return await self.parsed(partial(decode, kind))

    async def parsed(self, parse: Callable[[bytes], T]) -> T:
        """Return the body as `parse` reads it, off the event loop where it is large."""
        body = await self.request.body()
        if len(body) <= _SMALL:
            return parse(body)
        # One at a time: each holds the interpreter for a while, and those who wait for it would wait for all of them.
        return await asyncio.get_running_loop().run_in_executor(_decoding(), parse, body)

    def query(self, kind: type[T]) -> T:
        """Return the query string as the type that the table of endpoints names for this one."""
        assert isinstance(self.given, kind), "the table and the handler name the same query"
        return self.given
