"""The built-in engine as a provider: one engine per model path, shared by all versions; adapters loaded on demand."""

import asyncio
import contextlib
import math
import shutil
import tarfile
import tempfile
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from bessemer.core.errors import ConfigError, InvalidRequest, ProviderError
from bessemer.core.types import Model, TokenLogprob
from bessemer.engine.request import Choices, GenerateRequest, Generation, JsonSchema, TokenEvent, TopLogprob
from bessemer.gateway.fields import confident
from bessemer.gateway.providers.base import ProviderCall, ProviderChunk, ProviderUsage, ScoredToken, text_of
from bessemer.store.blobs import Blobs

if TYPE_CHECKING:
    from bessemer.engine.engine import Engine
    from bessemer.engine.tokens import Tokens


_ON_THE_LOOP = 16_384
"""Characters of a prompt that are encoded at once, in some 10 ms; a longer one is encoded in a thread."""
_MAX_ADAPTERS = 64
"""Per engine; one of rank 16 for a model of 135M parameters takes about 10 MB."""


class LocalProvider:
    """Answers with engines of this process. `open_engine` makes one for a model path; engines start on first use."""

    def __init__(self, blobs: Blobs, adapters: Path, open_engine: "Callable[[Path], Engine]") -> None:
        self._blobs = blobs
        self._adapters = adapters
        self._open_engine = open_engine
        self._engines: dict[Path, asyncio.Task[Engine]] = {}
        self._loaded: dict[Path, OrderedDict[str, asyncio.Task[str]]] = {}
        """Adapters in memory, by engine; the one used last stands last."""

    async def engine(self, model: Model) -> "Engine":
        """Return the running engine of a model, loading it the first time. Raises ConfigError, EngineError."""
        path = _path(model)
        task = self._engines.get(path)
        if task is None or (task.done() and task.exception() is not None):
            task = asyncio.create_task(asyncio.to_thread(self._start, path))
            self._engines[path] = task
        # Shielded: one impatient client must not cancel the loading that others wait for.
        return await asyncio.shield(task)

    def _start(self, path: Path) -> "Engine":
        engine = self._open_engine(path)
        assert engine.tokenizer.longest_piece  # made here, in a thread, and not by the first request
        engine.start()
        return engine

    async def complete(self, call: ProviderCall) -> AsyncIterator[ProviderChunk]:
        """Generate, or score the choices in one pass. See Provider."""
        engine = await self.engine(call.model)
        adapter = await self._adapter(engine, call)
        prompt = await _encoded(engine, call)
        with _named(call):
            if call.rules.constraint is not None and not engine.is_ready(call.rules.constraint):
                await asyncio.to_thread(engine.make_ready, call.rules.constraint)
            async with aclosing(self._answer(engine, call, _request(call, prompt, adapter))) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def _answer(
        self, engine: "Engine", call: ProviderCall, request: GenerateRequest
    ) -> AsyncGenerator[ProviderChunk, None]:
        threshold = call.version.field_threshold
        if isinstance(request.constraint, Choices):
            yield _whole(await engine.generate(request), request.constraint, engine.tokenizer)
            return
        yield ProviderChunk(usage=ProviderUsage(input_tokens=len(request.prompt)))
        if threshold or not call.stream:  # a value is dropped or kept when the whole of it is known
            chunk = _whole(await engine.generate(request), None, engine.tokenizer)
            yield _confident(chunk, threshold) if threshold else chunk
            return
        async with aclosing(cast("AsyncGenerator[TokenEvent, None]", engine.stream(request))) as events:
            async for event in events:
                yield _piece(event, engine.tokenizer)

    async def _adapter(self, engine: "Engine", call: ProviderCall) -> str | None:
        sha256 = call.version.adapter_sha256
        if sha256 is None:
            return None
        loaded = self._loaded.setdefault(_path(call.model), OrderedDict())
        task = loaded.get(sha256)
        if task is None or (task.done() and task.exception() is not None):
            task = asyncio.create_task(asyncio.to_thread(self._load, engine, sha256))
            loaded[sha256] = task
        await asyncio.shield(task)
        if loaded.get(sha256) is not task:
            # Others pushed it out while this one waited its turn.
            return await self._adapter(engine, call)
        loaded.move_to_end(sha256)
        oldest, of_oldest = next(iter(loaded.items()))
        if len(loaded) > _MAX_ADAPTERS and of_oldest.done():
            # Requests under way keep theirs, and those still to come load it again.
            del loaded[oldest]
            if of_oldest.exception() is None:
                engine.remove_adapter(oldest)
        return sha256

    def _load(self, engine: "Engine", sha256: str) -> str:
        return engine.add_adapter(sha256, unpack_adapter(self._blobs, sha256, self._adapters))

    async def close(self) -> None:
        """Stop all engines."""
        tasks, self._engines, self._loaded = list(self._engines.values()), {}, {}
        for engine in await asyncio.gather(*tasks, return_exceptions=True):
            # One that never loaded has nothing to stop; the requests that asked for it had the error.
            if not isinstance(engine, BaseException):
                await asyncio.to_thread(engine.close)


async def _encoded(engine: "Engine", call: ProviderCall) -> tuple[int, ...]:
    """Return the prompt's tokens. Raises InvalidRequest when they exceed the context, before encoding if it can."""
    messages = [{"role": message["role"], "content": text_of(message)} for message in call.messages]
    size = sum(len(message["content"]) for message in messages)
    if size > call.model.context_tokens * engine.tokenizer.longest_piece:
        raise _too_long(call, f"{size} characters")
    if size <= _ON_THE_LOOP:
        prompt = tuple(engine.tokenizer.encode_chat(messages))
    else:
        prompt = tuple(await asyncio.to_thread(engine.tokenizer.encode_chat, messages))
    if len(prompt) >= call.model.context_tokens:
        raise _too_long(call, f"{len(prompt)} tokens")
    return prompt


def _too_long(call: ProviderCall, size: str) -> InvalidRequest:
    return InvalidRequest(
        f"The prompt has {size}, the context of {call.model.name!r} {call.model.context_tokens} tokens; send less.",
        param="messages",
        code="context_length_exceeded",
    )


def unpack_adapter(blobs: Blobs, sha256: str, folder: Path) -> Path:
    """Return the folder of an adapter blob (a tar of a PEFT folder), unpacked once. Raises NotFound, ProviderError."""
    target = folder / sha256
    if target.exists():
        return target
    archive = blobs.get(sha256)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".unpack-", dir=folder))
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _unpack_file(tar, member, scratch)
        with contextlib.suppress(FileExistsError, OSError):
            scratch.rename(target)
    except (tarfile.TarError, EOFError) as error:
        raise ProviderError(f"The adapter {sha256[:12]} cannot be unpacked: {error}.", retryable=False) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if not target.exists():
        raise ProviderError(f"The adapter {sha256[:12]} cannot be stored in {str(folder)!r}.", retryable=False)
    return target


def _unpack_file(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member. Anything but a plain file directly in the archive is refused.

    `extractall(filter="data")` would do, but Python 3.11 has it from 3.11.4 on only.
    """
    content = tar.extractfile(member) if member.isfile() and Path(member.name).name == member.name else None
    if content is None:
        raise tarfile.TarError(f"the member {member.name!r} is not a plain file")
    with (folder / member.name).open("wb") as target:
        shutil.copyfileobj(content, target)


@contextlib.contextmanager
def _named(call: ProviderCall) -> Iterator[None]:
    """Name a malformed constraint as whoever wrote it does."""
    try:
        yield
    except InvalidRequest as error:
        if error.param != "constraint":
            raise
        if not call.rules.requested:
            field = "response_schema" if isinstance(call.rules.constraint, JsonSchema) else "grammar"
        else:
            field = "structured_outputs" if call.sampling.response_format is None else "response_format"
        raise InvalidRequest(error.message.replace("constraint", field, 1), param=field) from error


def _path(model: Model) -> Path:
    if model.path is None:
        raise ConfigError(f"The local model {model.name!r} has no path; set models.{model.name}.path.", param="path")
    return Path(model.path)


def _request(call: ProviderCall, prompt: tuple[int, ...], adapter: str | None) -> GenerateRequest:
    sampling, rules = call.sampling, call.rules
    limit = sampling.limit if sampling.limit is not None else rules.max_tokens
    return GenerateRequest(
        prompt=prompt,
        max_tokens=min(limit, call.model.context_tokens - len(prompt)),
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        top_k=sampling.top_k or 0,
        seed=sampling.seed,
        stop=sampling.stop or (),
        top_logprobs=sampling.top_logprobs or 0,
        adapter=adapter,
        logit_bias={int(token): value for token, value in (sampling.logit_bias or {}).items()},
        constraint=rules.constraint,
    )


def normalised(scores: Mapping[str, float], bias: Sequence[float] = ()) -> dict[str, float]:
    """Return log softmax(score + bias) per label; labels in the order of the biases."""
    shifted = dict(scores)
    for label, shift in zip(scores, bias, strict=False):
        shifted[label] += shift
    highest = max(shifted.values())
    total = highest + math.log(math.fsum(math.exp(value - highest) for value in shifted.values()))
    return {label: value - total for label, value in shifted.items()}


def _whole(generation: Generation, choices: Choices | None, tokenizer: "Tokens") -> ProviderChunk:
    last = len(generation.tokens) - 1
    alternatives = generation.top_logprobs or ((),) * len(generation.tokens)
    parts = zip(generation.tokens, generation.logprobs, generation.forced, alternatives, strict=True)
    scores = None
    if choices is not None and generation.choice_logprobs is not None:
        ordered = {label: generation.choice_logprobs[label] for label in choices.labels}
        scores = normalised(ordered, choices.bias)
    return ProviderChunk(
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


def _confident(chunk: ProviderChunk, threshold: float) -> ProviderChunk:
    text = confident(chunk.text, [scored.token for scored in chunk.tokens], threshold)
    return msgspec.structs.replace(chunk, text=text)


def _piece(event: TokenEvent, tokenizer: "Tokens") -> ProviderChunk:
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
    return ProviderChunk(
        text=event.text,
        tokens=tokens,
        finish_reason=event.finish_reason,
        usage=None if generation is None else _usage(generation),
        forced=() if generation is None else generation.forced,
    )


def _usage(generation: Generation) -> ProviderUsage:
    return ProviderUsage(
        input_tokens=generation.prompt_tokens,
        output_tokens=generation.completion_tokens,
        cached_tokens=generation.cached_tokens,
        seconds=generation.duration_s,
    )


def _text(token: int, tokenizer: "Tokens") -> str:
    return tokenizer.token_bytes(token).decode("utf-8", "replace")


def _alternatives(others: Sequence[TopLogprob], tokenizer: "Tokens") -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(token=_text(other.token, tokenizer), logprob=other.logprob) for other in others)
