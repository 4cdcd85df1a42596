"""Any OpenAI-compatible server over HTTP: one pooled client, exactly the fields that the client or the version sent.

Whatever a server does is at worst a retryable ProviderError with its reason, so that another target is asked; only a
request that it refuses as such (400, 413, 422) is the caller's own fault.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import ClassVar

import msgspec

from bessemer.core.conversation import Choices, Constraint, JsonSchema, Regex, ToolChoice
from bessemer.core.errors import BessemerError, ProviderError
from bessemer.core.events import EventParser
from bessemer.core.models import Capability, Model
from bessemer.core.pieces import in_pieces, is_large
from bessemer.core.reply import ReplyPiece
from bessemer.core.scrub import scrub
from bessemer.core.types import JSON
from bessemer.dialects import openai_chat, openai_embeddings
from bessemer.gateway.providers.answers import BOM, DONE, AnswerReader, looks_like_json
from bessemer.gateway.providers.base import ProviderCall, ProviderKind
from bessemer.gateway.providers.refusals import status_error
from bessemer.gateway.providers.upstream_http import UpstreamBroke, UpstreamClient, UpstreamResponse
from bessemer.registry.upstreams import UpstreamSettings
from bessemer.telemetry.logs import get_logger

_DRAIN_S = 0.05
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_ERROR_BYTES = 64 * 1024
_MAX_DETAIL = 2000
_INTERPRETED = frozenset({"max_completion_tokens", "response_format", "structured_outputs"})
"""Fields in the client's spelling that stand in a body only where nothing overrules them."""
_encode = msgspec.json.Encoder().encode
_log = get_logger("bessemer.gateway")


class OpenAISettings(UpstreamSettings, frozen=True):
    """What a model of an OpenAI-compatible server says."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.COMPLETE, Capability.EMBED, Capability.LOGPROBS, Capability.TOOLS}
    )
    dialects: ClassVar[frozenset[str]] = frozenset({openai_chat.NAME, openai_embeddings.NAME})


class OpenAIProvider:
    """Asks OpenAI-compatible servers. `environ` holds the API keys that models name by `api_key_env`."""

    def __init__(self, environ: Mapping[str, str], *, connections: int = 1000) -> None:
        self._environ = environ
        self._connections = connections
        self._upstreams: UpstreamClient | None = None

    def _client(self) -> UpstreamClient:
        # Made on first use: a client belongs to the running event loop.
        if self._upstreams is None:
            self._upstreams = UpstreamClient(self._connections)
        return self._upstreams

    async def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        """Ask the upstream. See Provider; closing the iterator closes the connection."""
        response: UpstreamResponse | None = None
        reader, patience = AnswerReader(call.model), _Patience(call)
        try:
            with _crossing(call.model):
                async with patience.until_answer():
                    response = await self._post(call)
                    if response.status != 200:
                        raise status_error(call.model, response.status, response.headers, await _start_of(response))
                    body = b"" if call.stream else await _body(response)
                if not call.stream:
                    yield reader.vectors(body, len(call.messages)) if call.embed else reader.whole(body)
                    return
                async with aclosing(_streamed(reader, response, patience)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        finally:
            patience.close()
            if response is not None:
                # An answer that was not read to its end must stop at the upstream; at its end this does nothing.
                response.close()

    async def _post(self, call: ProviderCall) -> UpstreamResponse:
        settings = call.model.settings_as(OpenAISettings)
        headers = {"Content-Type": "application/json"}
        if (key := settings.api_key(f"models.{call.model.name}", self._environ)) is not None:
            headers["Authorization"] = f"Bearer {key}"
        body = await _encoded(_embedded_body(call) if call.embed else upstream_body(call))
        return await self._client().post(
            settings.base_url.rstrip("/") + ("/embeddings" if call.embed else "/chat/completions"),
            body,
            headers,
            settings.timeouts.connect,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._upstreams is not None:
            self._upstreams.close()
            self._upstreams = None


async def _encoded(body: JSON) -> bytes:
    """Return JSON; a long one is written where it holds up nobody."""
    return await asyncio.to_thread(lambda: _encode(in_pieces(body))) if is_large(body) else _encode(body)


class _Patience:
    """How long one call may still take: in all, and until the next byte of a stream; and how much. Close it at the
    call's end."""

    def __init__(self, call: ProviderCall) -> None:
        limits = call.model.settings_as(OpenAISettings).timeouts
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + limits.total
        self._idle = limits.idle
        self._next = min(self._ends, self._loop.time() + limits.first_byte) if call.stream else self._ends
        self._awaited: UpstreamResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._size = 0

    def until_answer(self) -> asyncio.Timeout:
        """Return the limit of waiting for the first byte of a stream, or for a whole answer."""
        return asyncio.timeout_at(self._next)

    async def piece(self, content: UpstreamResponse) -> bytes:
        """Return the next bytes of a stream, a sign of life; none at its end.

        Raises TimeoutError, and ProviderError above 64 MiB in all.
        All pieces share one timer: to make one for each takes longer than to read it.
        """
        self._awaited = content
        if self._timer is None or self._timer.when() > self._next:
            self.close()
            self._timer = self._loop.call_at(self._next, self._look)
        try:
            piece = await content.readany()
        finally:
            self._awaited = None
            self._next = min(self._ends, self._loop.time() + self._idle)
        self._size += len(piece)
        if self._size > _MAX_ANSWER_BYTES:
            raise _too_large()
        return piece

    def _look(self) -> None:
        self._timer = None
        if self._awaited is None:
            return  # nobody waits: the answer is read as slowly as its reader likes
        if self._loop.time() >= self._next:
            self._awaited.fail(TimeoutError())
        else:
            self._timer = self._loop.call_at(self._next, self._look)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()


@contextlib.contextmanager
def _crossing(model: Model) -> Iterator[None]:
    """Name every error of this boundary; its text may hold addresses and keys, so only its kind is told."""
    try:
        yield
    except BessemerError:
        raise
    except TimeoutError as error:
        raise ProviderError(f"{model.name!r}: the upstream did not answer in time.", code="timeout") from error
    except UpstreamBroke as error:
        raise _named(model, error, "the upstream's answer broke off or is not HTTP", "connection_error") from error
    except OSError as error:
        raise _named(model, error, "no connection to the upstream, or it was lost", "connection_error") from error
    except Exception as error:
        _log.exception("upstream_unreadable", model=model.name)
        raise _named(model, error, "the upstream's answer cannot be read", "upstream_unreadable") from error


def _named(model: Model, error: Exception, reason: str, code: str) -> ProviderError:
    named = ProviderError(f"{model.name!r}: {reason} ({type(error).__name__}).", code=code)
    named.detail = scrub(str(error))[:_MAX_DETAIL] or None
    return named


async def _start_of(response: UpstreamResponse) -> bytes:
    """Read as much of an error's body as is worth telling; an endless one is cut."""
    body = b""
    with contextlib.suppress(UpstreamBroke):
        while len(body) < _MAX_ERROR_BYTES and (piece := await response.readany()):
            body += piece
    return body


async def _body(content: UpstreamResponse) -> bytes:
    """Read an answer in one piece. Raises ProviderError above 64 MiB."""
    body = bytearray()
    while piece := await content.readany():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            raise _too_large()
    return bytes(body)


async def _streamed(
    reader: AnswerReader, content: UpstreamResponse, patience: _Patience
) -> AsyncGenerator[ReplyPiece, None]:
    """Yield the chunks of a streamed answer, also where JSON came in its place.

    Raises ProviderError when it ends before the answer does.
    """
    piece = await patience.piece(content)
    while not piece.removeprefix(BOM).strip() and (more := await patience.piece(content)):
        piece += more
    if looks_like_json(piece):
        whole = bytearray(piece)
        while more := await patience.piece(content):
            whole += more
        yield reader.whole(bytes(whole))
        return
    events, finished = EventParser(), False
    while piece:
        for data in events.feed(piece):
            if data.strip() == DONE:
                if not finished:  # some servers give no reason, but this is the end that they meant
                    yield ReplyPiece(finish_reason="stop")
                await _drain(content, patience)
                return
            chunk = reader.chunk(data)
            finished = finished or chunk.finish_reason is not None
            yield chunk
        piece = await patience.piece(content)
    if not finished:
        raise ProviderError("The upstream's stream ended before its answer did.", code="stream_ended")


def _too_large() -> ProviderError:
    return ProviderError("The upstream's answer is above 64 MiB.", code="upstream_unreadable")


async def _drain(content: UpstreamResponse, patience: _Patience) -> None:
    """Read to the end that follows [DONE] at once, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while await patience.piece(content):
                pass


def upstream_body(call: ProviderCall) -> JSON:
    """Return the request body: the upstream's model name, the messages, what the client sent, what the version demands.

    Nothing else is added but a stream's usage, without which its cost would be unknown, and `logprobs`
    when the route's confidence is made of them. A client of this dialect is forwarded in its own spelling.
    """
    sampling, rules = call.sampling, call.rules
    same = call.dialect == openai_chat.NAME
    spelling = call.spelling if same else {}
    body: JSON = {
        "model": call.model.settings_as(OpenAISettings).upstream_model or call.model.name,
        "messages": [message.plain() for message in call.messages],
    }
    limit = "max_completion_tokens" if "max_completion_tokens" in spelling else "max_tokens"
    if sampling.max_tokens is not None:
        body[limit] = sampling.max_tokens
    names = ("temperature", "top_p", "top_k", "seed", "logit_bias")
    body.update({name: value for name in names if (value := getattr(sampling, name)) is not None})
    if sampling.stop is not None:
        body["stop"] = list(sampling.stop)
    if sampling.logprobs or call.need_logprobs:
        body["logprobs"] = True
    if sampling.top_logprobs is not None:
        body["top_logprobs"] = sampling.top_logprobs
    if rules.requested and same:
        verbatim = ("response_format", "structured_outputs")
        body.update({name: spelling[name] for name in verbatim if name in spelling})
    elif rules.constraint is not None:
        body.update(_constraint_fields(rules.constraint))
    if sampling.max_tokens is None and rules.max_tokens_declared:
        body["max_tokens"] = rules.max_tokens
    if same:
        body.update(call.extra)
        body.update({name: value for name, value in spelling.items() if name not in body and name not in _INTERPRETED})
    elif call.tools:
        body["tools"] = [tool.plain() for tool in call.tools]
        if call.tool_choice != ToolChoice():
            body["tool_choice"] = _choice_of(call.tool_choice)
    if call.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


def _embedded_body(call: ProviderCall) -> JSON:
    """Return the request body of embeddings: the upstream's model name, and nothing that the client did not send."""
    model = call.model.settings_as(OpenAISettings).upstream_model or call.model.name
    if call.dialect == openai_embeddings.NAME:
        return {"model": model, **call.spelling, **call.extra}
    return {"model": model, "input": [message.text for message in call.messages]}


def _choice_of(choice: ToolChoice) -> str | JSON:
    return choice.mode if choice.name is None else {"type": "function", "function": {"name": choice.name}}


def _constraint_fields(constraint: Constraint) -> JSON:
    if isinstance(constraint, JsonSchema):
        named = {"name": "answer", "schema": constraint.schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if isinstance(constraint, Choices):
        if any(constraint.bias):
            raise ProviderError(
                "choice_bias needs the log-probability of every choice, which an upstream does not give.",
                retryable=False,
            )
        return {"structured_outputs": {"choice": list(constraint.labels)}}
    if isinstance(constraint, Regex):
        return {"structured_outputs": {"regex": constraint.pattern}}
    return {"structured_outputs": {"grammar": constraint.grammar}}


OPENAI = ProviderKind("openai", OpenAISettings, lambda context: OpenAIProvider(context.environ))
