"""From chunks to OpenAI's objects: a chat.completion, or the server-sent events of a streamed one."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any

import msgspec

from bessemer.core.errors import BessemerError
from bessemer.core.openai import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatMessage,
    Choice,
    ResponseExtension,
    Usage,
)
from bessemer.core.types import JSON, Inference, ModelCall, TokenLogprob
from bessemer.gateway.exchange import AsyncChunks, Exchange
from bessemer.gateway.providers.base import ProviderChunk, ScoredToken

_encode = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"


def completion_of(exchange: Exchange, inference: Inference) -> ChatCompletion:
    """Return the finished answer as OpenAI's `chat.completion`."""
    answer = exchange.answer
    return ChatCompletion(
        id=_completion_id(exchange),
        created=int(exchange.created_at),
        model=exchange.asked.name,
        choices=[
            Choice(
                index=0,
                message=_message(exchange),
                finish_reason=exchange.finish_reason or "stop",
                logprobs=_logprobs(exchange, tuple(exchange.tokens)),
            )
        ],
        usage=None if answer is None else usage_of(answer),
        bessemer=extension_of(exchange, inference),
    )


def _message(exchange: Exchange) -> ChatMessage:
    text, refusal = "".join(exchange.output), "".join(exchange.refusal)
    return ChatMessage(
        content=None if refusal and not text else text,
        refusal=refusal or None,
        reasoning_content="".join(exchange.reasoning) or msgspec.UNSET,
    )


def usage_of(call: ModelCall) -> Usage | None:
    """Return the token counts of the answering call; None when they are unknown."""
    if call.input_tokens is None or call.output_tokens is None:
        return None
    return Usage(
        prompt_tokens=call.input_tokens,
        completion_tokens=call.output_tokens,
        total_tokens=call.input_tokens + call.output_tokens,
        prompt_tokens_details=None if call.cached_tokens is None else {"cached_tokens": call.cached_tokens},
    )


def extension_of(exchange: Exchange, inference: Inference) -> ResponseExtension:
    """Return what answered and what it cost."""
    answer = exchange.answer
    return ResponseExtension(
        inference_id=inference.id,
        version=inference.version,
        cost_usd=inference.cost_usd,
        provider=None if answer is None else answer.provider.value,
        escalated=answer is not None and answer.step > 0,
    )


def _completion_id(exchange: Exchange) -> str:
    return "chatcmpl-" + exchange.inference_id.removeprefix("inf-")


def _logprobs(exchange: Exchange, tokens: tuple[ScoredToken, ...]) -> JSON | None:
    if not exchange.asked.sampling.logprobs:
        return None
    wanted = exchange.asked.sampling.top_logprobs or 0
    content = [
        {**_entry(scored.token), "top_logprobs": [_entry(other) for other in scored.alternatives[:wanted]]}
        for scored in tokens
        if not scored.terminator
    ]
    return {"content": content, "refusal": None}


def _entry(token: TokenLogprob) -> dict[str, Any]:
    # A token that holds a part of a character has no text of its own, and its bytes are not kept.
    spelled = None if "\ufffd" in token.token else list(token.token.encode())
    return {"token": token.token, "logprob": token.logprob, "bytes": spelled}


def event_of(value: Any) -> bytes:
    """Return a value as one server-sent event."""
    return b"data: " + _encode(value) + b"\n\n"


class EventStream:
    """The events of one streamed answer. Its first piece is already here when it is made.

    Close it when the client goes away: that closes the upstream and records the partial answer as failed, whether or
    not an event was read.
    """

    def __init__(self, exchange: Exchange, first: ProviderChunk, rest: AsyncChunks) -> None:
        self._exchange = exchange
        self._rest = rest
        self._events = self._make(first)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._events.__anext__()

    async def aclose(self) -> None:
        """Stop the answer. Does nothing after its end."""
        await self._events.aclose()
        await self._rest.aclose()

    async def _make(self, first: ProviderChunk) -> AsyncGenerator[bytes, None]:
        yield self._chunk({"role": "assistant", "content": ""}, self._opening())
        try:
            if (event := self._piece(first)) is not None:
                yield event
            async for chunk in self._rest:
                if (event := self._piece(chunk)) is not None:
                    yield event
        except BessemerError as error:
            # Too late for a status and for another target: one terminal error event, never [DONE].
            yield event_of(error.body())
            return
        for event in self._closing():
            yield event

    def _opening(self) -> ResponseExtension:
        return ResponseExtension(inference_id=self._exchange.inference_id)

    def _piece(self, chunk: ProviderChunk) -> bytes | None:
        logprobs = _logprobs(self._exchange, chunk.tokens) if any(not one.terminator for one in chunk.tokens) else None
        delta = {"content": chunk.text, "reasoning_content": chunk.reasoning, "refusal": chunk.refusal}
        delta = {name: text for name, text in delta.items() if text}
        if not delta and logprobs is None:
            return None
        return self._chunk(delta or {"content": ""}, None, logprobs=logprobs)

    def _closing(self) -> list[bytes]:
        exchange = self._exchange
        assert exchange.inference is not None, "the recorder has run: the chunks are exhausted"
        extension = extension_of(exchange, exchange.inference)
        events = [self._chunk({}, extension, finish_reason=exchange.finish_reason or "stop")]
        usage = None if exchange.answer is None else usage_of(exchange.answer)
        if exchange.asked.include_usage and usage is not None:  # clients take a chunk without choices for usage
            last = ChatCompletionChunk(
                id=_completion_id(exchange),
                created=int(exchange.created_at),
                model=exchange.asked.name,
                choices=[],
                usage=usage,
            )
            events.append(event_of(last))
        return [*events, DONE]

    def _chunk(
        self,
        delta: JSON,
        extension: ResponseExtension | None,
        *,
        logprobs: JSON | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        chunk = ChatCompletionChunk(
            id=_completion_id(self._exchange),
            created=int(self._exchange.created_at),
            model=self._exchange.asked.name,
            choices=[{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}],
            bessemer=extension,
        )
        return event_of(chunk)
