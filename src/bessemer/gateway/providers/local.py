"""The built-in engine as a provider: a call becomes the engine's request, its answer chunks."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

import msgspec

from bessemer.core.conversation import Choices, JsonSchema
from bessemer.core.errors import InvalidRequest
from bessemer.core.inferences import TokenLogprob
from bessemer.core.models import Capability
from bessemer.core.reply import ReplyPiece, ScoredToken, Usage
from bessemer.engine.request import GenerateRequest, Generation, TokenEvent, TopLogprob
from bessemer.gateway.fields import confident
from bessemer.gateway.providers.base import ProviderCall, ProviderKind
from bessemer.gateway.providers.choices import normalised
from bessemer.gateway.providers.engines import Engines
from bessemer.gateway.providers.spoken_tools import bound, called, offered, told
from bessemer.registry.weights import WeightsSettings

if TYPE_CHECKING:
    from bessemer.engine.engine import Engine
    from bessemer.engine.tokens import Tokens


T = TypeVar("T")
Made = TypeVar("Made")
_PREPARING = 2
"""Threads that encode long prompts and compile constraints; more would take the cores from the engine."""
_ON_THE_LOOP = 16_384
"""Characters of a prompt that are encoded at once, in some 10 ms; a longer one is encoded in a thread."""


class LocalSettings(WeightsSettings, frozen=True):
    """What a model of the built-in engine says."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.COMPLETE, Capability.ADAPTERS, Capability.LOGPROBS, Capability.TOOLS}
    )
    shares_machine: ClassVar[bool] = True
    # An enumerable answer is a decision: the best one. Free text: OpenAI's default.
    choice_temperature: ClassVar[float | None] = 0.0
    temperature: ClassVar[float | None] = 1.0


class LocalProvider:
    """Answers with engines of this process."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        # Threads of its own: those that everything else waits in are not for one client's long texts.
        self._preparing = ThreadPoolExecutor(_PREPARING, thread_name_prefix="bessemer-prepare")

    async def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        """Generate, or score the choices in one pass. See Provider."""
        call = _spoken(call)
        async with self._engines.use(call.model, call.version.adapter_sha256) as engine:
            prompt = await self._encoded(engine, call)
            with _named(call):
                if call.rules.constraint is not None and not engine.is_ready(call.rules.constraint):
                    await self._prepared(engine.make_ready, call.rules.constraint)
                async with aclosing(self._answer(engine, call, _request(call, prompt))) as chunks:
                    async for chunk in chunks:
                        yield chunk

    async def _answer(
        self, engine: "Engine", call: ProviderCall, request: GenerateRequest
    ) -> AsyncGenerator[ReplyPiece, None]:
        threshold = call.rules.field_threshold
        if isinstance(request.constraint, Choices):
            yield _whole(await engine.generate(request), request.constraint, engine.tokenizer)
            return
        yield ReplyPiece(usage=Usage(input_tokens=len(request.prompt)))
        # A value is dropped or kept, and an answer is a call or words, when the whole of it is known.
        if threshold or not call.stream or call.tools:
            chunk = _whole(await engine.generate(request), None, engine.tokenizer)
            chunk = _confident(chunk, threshold) if threshold else chunk
            yield _calling(chunk) if call.tools else chunk
            return
        async with aclosing(cast("AsyncGenerator[TokenEvent, None]", engine.stream(request))) as events:
            async for event in events:
                yield _piece(event, engine.tokenizer)

    async def close(self) -> None:
        """Stop all engines."""
        await self._engines.close()
        self._preparing.shutdown(wait=False, cancel_futures=True)

    async def _prepared(self, work: Callable[[T], Made], of: T) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._preparing, work, of)

    async def _encoded(self, engine: "Engine", call: ProviderCall) -> tuple[int, ...]:
        """Return the prompt's tokens. Raises InvalidRequest when they exceed the context, before encoding if it can."""
        messages = [{"role": message.role, "content": message.text} for message in call.messages]
        size = sum(len(message["content"]) for message in messages)
        if size > call.model.context_tokens * engine.tokenizer.longest_piece:
            raise _too_long(call, f"{size} characters")
        if size <= _ON_THE_LOOP:
            prompt = tuple(engine.tokenizer.encode_chat(messages))
        else:
            prompt = tuple(await self._prepared(engine.tokenizer.encode_chat, messages))
        if len(prompt) >= call.model.context_tokens:
            raise _too_long(call, f"{len(prompt)} tokens")
        return prompt


def _spoken(call: ProviderCall) -> ProviderCall:
    """Return the call with its tools in words and a grammar."""
    if not call.tools and not any(said.tool_calls or said.role in {"tool", "function"} for said in call.messages):
        return call
    tools = offered(call.tools, call.tool_choice)
    constraint = bound(tools, call.tool_choice, call.rules.constraint)
    rules = call.rules
    if constraint != rules.constraint:
        rules = msgspec.structs.replace(rules, constraint=constraint, requested="tools")
    messages = told(call.messages, tools, call.tool_choice)
    return msgspec.structs.replace(call, messages=messages, rules=rules, tools=tools)


def _too_long(call: ProviderCall, size: str) -> InvalidRequest:
    return InvalidRequest(
        f"The prompt has {size}, the context of {call.model.name!r} {call.model.context_tokens} tokens; send less.",
        param="messages",
        code="context_length_exceeded",
    )


@contextlib.contextmanager
def _named(call: ProviderCall) -> Iterator[None]:
    """Name a malformed constraint as whoever wrote it does."""
    try:
        yield
    except InvalidRequest as error:
        if error.param != "constraint":
            raise
        own = "response_schema" if isinstance(call.rules.constraint, JsonSchema) else "grammar"
        field = call.rules.requested or own
        raise InvalidRequest(error.message.replace("constraint", field, 1), param=field) from error


def _request(call: ProviderCall, prompt: tuple[int, ...]) -> GenerateRequest:
    sampling, rules = call.sampling, call.rules
    limit = rules.max_tokens if sampling.max_tokens is None else sampling.max_tokens
    return GenerateRequest(
        prompt=prompt,
        max_tokens=min(limit, call.model.context_tokens - len(prompt)),
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        top_k=sampling.top_k or 0,
        seed=sampling.seed,
        stop=sampling.stop or (),
        top_logprobs=sampling.top_logprobs or 0,
        adapter=call.version.adapter_sha256,
        logit_bias=sampling.logit_bias or {},
        constraint=rules.constraint,
    )


def _whole(generation: Generation, choices: Choices | None, tokenizer: "Tokens") -> ReplyPiece:
    last = len(generation.tokens) - 1
    alternatives = generation.top_logprobs or ((),) * len(generation.tokens)
    parts = zip(generation.tokens, generation.logprobs, generation.forced, alternatives, strict=True)
    scores = None
    if choices is not None and generation.choice_logprobs is not None:
        ordered = {label: generation.choice_logprobs[label] for label in choices.labels}
        scores = normalised(ordered, choices.bias)
    return ReplyPiece(
        text=generation.text,
        tokens=tuple(
            ScoredToken(
                token=TokenLogprob(token=_text(token, tokenizer), logprob=logprob, forced=forced),
                alternatives=_alternatives(others, tokenizer),
                terminator=index == last and token in tokenizer.eos_ids,
            )
            for index, (token, logprob, forced, others) in enumerate(parts)
        ),
        finish_reason=generation.finish_reason,
        usage=_usage(generation),
        choice_logprobs=scores,
    )


def _confident(chunk: ReplyPiece, threshold: float) -> ReplyPiece:
    text = confident(chunk.text, [scored.token for scored in chunk.tokens], threshold)
    return msgspec.structs.replace(chunk, text=text)


def _calling(chunk: ReplyPiece) -> ReplyPiece:
    """Return an answer that is a call as one; log-probabilities of tokens are of words, and a call has none."""
    call = called(chunk.text)
    if call is None:
        return chunk
    ends = "tool_calls" if chunk.finish_reason == "stop" else chunk.finish_reason
    return msgspec.structs.replace(chunk, text="", tokens=(), tool_calls=(call,), finish_reason=ends)


def _piece(event: TokenEvent, tokenizer: "Tokens") -> ReplyPiece:
    tokens: tuple[ScoredToken, ...] = ()
    if event.token is not None and event.logprob is not None:
        token = TokenLogprob(token=_text(event.token, tokenizer), logprob=event.logprob)
        tokens = (
            ScoredToken(
                token=token,
                alternatives=_alternatives(event.top_logprobs, tokenizer),
                terminator=event.token in tokenizer.eos_ids,
            ),
        )
    generation = event.generation
    return ReplyPiece(
        text=event.text,
        tokens=tokens,
        finish_reason=event.finish_reason,
        usage=None if generation is None else _usage(generation),
        forced=() if generation is None else generation.forced,
    )


def _usage(generation: Generation) -> Usage:
    return Usage(
        input_tokens=generation.prompt_tokens,
        output_tokens=generation.completion_tokens,
        cached_tokens=generation.cached_tokens,
        seconds=generation.duration_s,
    )


def _text(token: int, tokenizer: "Tokens") -> str:
    return tokenizer.token_bytes(token).decode("utf-8", "replace")


def _alternatives(others: Sequence[TopLogprob], tokenizer: "Tokens") -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(token=_text(other.token, tokenizer), logprob=other.logprob) for other in others)


LOCAL = ProviderKind("local", LocalSettings, lambda context: LocalProvider(context.engines))
