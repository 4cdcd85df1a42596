"""Any OpenAI-compatible server over HTTP: one pooled client, exactly the fields that the client or the version sent.

Retryable: no connection, timeouts, 408, 409, 425, 429 and 5xx, and streams that break. Everything else is the request's
own fault and no other try helps.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import aiohttp
import msgspec

from bessemer.core.errors import BessemerError, ConfigError, InvalidRequest, ProviderError, RateLimited
from bessemer.core.types import JSON, Frozen, Model, TokenLogprob
from bessemer.engine.request import Choices, Constraint, JsonSchema, Regex
from bessemer.gateway.providers.base import ProviderCall, ProviderChunk, ProviderUsage, ScoredToken
from bessemer.gateway.providers.events import server_sent_data

_RETRYABLE = frozenset({408, 409, 425})
_THE_REQUEST = frozenset({400, 413, 422})
_MAX_ERROR_TEXT = 500
_DRAIN_S = 0.05
_encode = msgspec.json.Encoder().encode


class Timeouts(Frozen, frozen=True):
    """Seconds that an upstream may take."""

    connect: float = 5.0
    first_token: float = 60.0
    """Of a stream, until its first event."""
    idle: float = 30.0
    """Of a stream, between two events."""
    total: float = 600.0


class _Choice(msgspec.Struct):
    message: JSON | None = None
    delta: JSON | None = None
    finish_reason: str | None = None
    logprobs: JSON | None = None


class _Answer(msgspec.Struct):
    """What is read of a chat.completion or of a chunk; the rest is not needed."""

    choices: list[_Choice] = []
    usage: JSON | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


class OpenAIProvider:
    """Asks OpenAI-compatible servers. `environ` holds the API keys that models name by `api_key_env`."""

    def __init__(
        self, environ: Mapping[str, str], timeouts: Timeouts | None = None, *, connections: int = 1000
    ) -> None:
        self._environ = environ
        self._timeouts = timeouts or Timeouts()
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def _client(self) -> aiohttp.ClientSession:
        # Made on first use, because a session belongs to the running event loop. aiohttp sets TCP_NODELAY itself.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(total=self._timeouts.total, sock_connect=self._timeouts.connect),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent",),
                trust_env=False,
            )
        return self._session

    async def complete(self, call: ProviderCall) -> AsyncIterator[ProviderChunk]:
        """Ask the upstream. See Provider; closing the iterator closes the connection."""
        response: aiohttp.ClientResponse | None = None
        patience = self._timeouts.first_token if call.stream else self._timeouts.total
        deadline = time.monotonic() + patience
        try:
            async with asyncio.timeout(patience):
                response = await self._post(call)
                body = b"" if call.stream and response.status == 200 else await response.read()
            if body or response.status != 200 or not call.stream:
                yield _whole(call.model, response.status, body)
                return
            async with aclosing(self._events(call.model, response, deadline)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except TimeoutError as error:
            raise ProviderError(f"{call.model.name!r}: the upstream did not answer in time.", code="timeout") from error
        except aiohttp.ClientError as error:
            raise ProviderError(
                f"{call.model.name!r}: {type(error).__name__}: {error}.", code="connection_error"
            ) from error
        finally:
            if response is not None:
                # An answer that was not read to its end must stop at the upstream; at its end this does nothing.
                response.close()

    async def _post(self, call: ProviderCall) -> aiohttp.ClientResponse:
        url, headers = self._address(call.model)
        body = _encode(upstream_body(call))
        return await self._client().post(url, data=body, headers=headers, allow_redirects=False)

    def _address(self, model: Model) -> tuple[str, dict[str, str]]:
        if model.base_url is None:
            raise ConfigError(f"The model {model.name!r} has no base_url; set models.{model.name}.base_url.")
        headers = {"Content-Type": "application/json"}
        if model.api_key_env is not None:
            key = self._environ.get(model.api_key_env)
            if not key:
                raise ProviderError(
                    f"{model.name!r} needs the environment variable {model.api_key_env!r}; set it and start again.",
                    retryable=False,
                )
            headers["Authorization"] = f"Bearer {key}"
        return model.base_url.rstrip("/") + "/chat/completions", headers

    async def _events(
        self, model: Model, response: aiohttp.ClientResponse, deadline: float
    ) -> AsyncGenerator[ProviderChunk, None]:
        finished = False
        data_of = cast("AsyncGenerator[bytes, None]", server_sent_data(response.content.iter_any()))
        async with aclosing(data_of) as events:
            while True:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    data = await anext(events, None)
                if data is None or data == b"[DONE]":
                    await self._drain(events)
                    break
                chunk = _chunk(model, data)
                finished = finished or chunk.finish_reason is not None
                deadline = time.monotonic() + self._timeouts.idle
                yield chunk
        if not finished:
            raise ProviderError(f"{model.name!r}: the upstream's stream ended early.", code="stream_ended")

    async def _drain(self, events: AsyncGenerator[bytes, None]) -> None:
        """Read to the end that follows [DONE] at once, so that the connection can be used again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while await anext(events, None) is not None:
                    pass

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def upstream_body(call: ProviderCall) -> JSON:
    """Return the request body: the upstream's model name, the messages, what the client sent, what the version demands.

    Nothing else is added but a stream's usage, without which its cost would be unknown, and `logprobs`
    when the route's confidence is made of them.
    """
    sampling, rules = call.sampling, call.rules
    body: JSON = {"model": call.model.upstream_model or call.model.name, "messages": list(call.messages)}
    names = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "logit_bias")
    body.update({name: value for name in names if (value := getattr(sampling, name)) is not None})
    if sampling.stop is not None:
        body["stop"] = list(sampling.stop)
    if sampling.logprobs or call.need_logprobs:
        body["logprobs"] = True
    if sampling.top_logprobs is not None:
        body["top_logprobs"] = sampling.top_logprobs
    if rules.requested:
        verbatim = {"response_format": sampling.response_format, "structured_outputs": sampling.structured_outputs}
        body.update({name: value for name, value in verbatim.items() if value is not None})
    elif rules.constraint is not None:
        body.update(_constraint_fields(rules.constraint))
    if sampling.limit is None and rules.max_tokens_declared:
        body["max_tokens"] = rules.max_tokens
    if call.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return body


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


def _refusal(model: Model, status: int, body: bytes) -> BessemerError:
    message, code = _error_text(body)
    text = f"{model.name!r}: the upstream answered {status}: {message}"
    if status == 429:
        return RateLimited(text)
    if status in _THE_REQUEST:
        return InvalidRequest(text, code=code)
    return ProviderError(text, retryable=status >= 500 or status in _RETRYABLE, code=code)


def _error_text(body: bytes) -> tuple[str, str | None]:
    try:
        error = msgspec.json.decode(body, type=dict[str, Any]).get("error")
    except msgspec.DecodeError:
        return body[:_MAX_ERROR_TEXT].decode("utf-8", "replace"), None
    if isinstance(error, dict):
        code = error.get("code")
        return str(error.get("message"))[:_MAX_ERROR_TEXT], code if isinstance(code, str) else None
    return str(error)[:_MAX_ERROR_TEXT], None


def _parse(model: Model, data: bytes) -> _Answer:
    try:
        answer = _decode(data)
    except msgspec.DecodeError as error:
        raise ProviderError(f"{model.name!r}: the upstream's answer is not OpenAI's: {error}.") from error
    if answer.error is not None:
        # An error inside a 200 is an error.
        raise ProviderError(f"{model.name!r}: the upstream failed: {_error_text(data)[0]}", code="upstream_error")
    return answer


def _whole(model: Model, status: int, body: bytes) -> ProviderChunk:
    if status != 200:
        raise _refusal(model, status, body)
    answer = _parse(model, body)
    if not answer.choices or answer.choices[0].message is None:
        raise ProviderError(f"{model.name!r}: the upstream's answer has no message.")
    choice = answer.choices[0]
    return ProviderChunk(
        text=_content(model, choice.message),
        tokens=_tokens(choice.logprobs),
        finish_reason=choice.finish_reason or "stop",
        usage=_usage(answer.usage),
    )


def _chunk(model: Model, data: bytes) -> ProviderChunk:
    answer = _parse(model, data)
    choice = answer.choices[0] if answer.choices else _Choice()
    return ProviderChunk(
        text=_content(model, choice.delta),
        tokens=_tokens(choice.logprobs),
        finish_reason=choice.finish_reason,
        usage=_usage(answer.usage),
    )


def _content(model: Model, message: JSON | None) -> str:
    content = (message or {}).get("content")
    if content is not None and not isinstance(content, str):
        raise ProviderError(f"{model.name!r}: the upstream's content is not text.", retryable=False)
    return content or ""


def _tokens(logprobs: JSON | None) -> tuple[ScoredToken, ...]:
    entries = (logprobs or {}).get("content") or []
    return tuple(
        ScoredToken(token=_token(entry), alternatives=tuple(map(_token, entry.get("top_logprobs") or ())))
        for entry in entries
    )


def _token(entry: JSON) -> TokenLogprob:
    return TokenLogprob(token=str(entry.get("token", "")), logprob=float(entry.get("logprob", "nan")))


def _usage(usage: JSON | None) -> ProviderUsage | None:
    if usage is None:
        return None
    details = usage.get("prompt_tokens_details") or {}
    return ProviderUsage(
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        cached_tokens=details.get("cached_tokens"),
    )
