"""Real answers recorded earlier, found by the text that the recorded model saw. What was not recorded is refused."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec

from bessemer.core.errors import ConfigError, InvalidRequest, ProviderError
from bessemer.core.models import Capability, ConfiguredAt, Model, ProviderSettings
from bessemer.core.reply import ReplyPiece, Usage
from bessemer.core.template import look_up
from bessemer.core.types import JSON, Frozen
from bessemer.gateway.providers.base import ProviderCall, ProviderKind

CountTokens = Callable[[str, str], Awaitable[int]]
"""(name of the local model whose tokenizer counts, text) -> tokens."""


class RecordedFormat(Frozen, frozen=True):
    """Which fields of a JSON Lines file of recorded answers hold what. Dotted paths reach into objects."""

    prompt_field: str | None = "prompt"
    """Field with the user text that the recorded model saw; None or empty: answers are found by key alone."""
    answer_field: str = "recorded_answer"
    key_field: str | None = None
    """Field with an id that tells apart records of equal text."""
    key: str | None = None
    """Where a request carries that id: `tags.NAME` or `input.NAME`."""
    tokenizer: str | None = None
    """Name of the local model whose tokenizer counts the tokens that the file does not state."""
    input_tokens_field: str | None = None
    output_tokens_field: str | None = None
    mean_input_tokens: float | None = None
    """Published mean per answer, where the file has no count of its own."""
    mean_output_tokens: float | None = None
    mean_total_tokens: float | None = None
    """Published mean of input and output together; the output is counted or known and the input is the rest."""


class RecordedSettings(ProviderSettings, frozen=True):
    """What a model of recorded answers says."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.COMPLETE})
    path: str
    """A JSON Lines file."""
    recorded: RecordedFormat = RecordedFormat()

    def completed(self, at: ConfiguredAt) -> Self:
        """Fill in the path."""
        return msgspec.structs.replace(self, path=self.path.replace("{data}", str(at.data)))

    def identity(self, name: str) -> JSON:
        """Return the file."""
        return {"path": self.path, "base_url": None, "upstream_model": name}


class _Answer(Frozen, frozen=True):
    prompt: str | None
    text: str
    key: str | None
    input_tokens: int | None
    output_tokens: int | None


class _Recording(Frozen, frozen=True):
    format: RecordedFormat
    by_key: dict[str, tuple[_Answer, ...]]
    by_prompt: dict[str, tuple[_Answer, ...]]


class RecordedProvider:
    """Serves the recorded answers of JSON Lines files (plain or gzip). A file is read once, on first use."""

    def __init__(self, count_tokens: CountTokens | None = None) -> None:
        self._count_tokens = count_tokens
        self._recordings: dict[str, asyncio.Task[_Recording]] = {}

    async def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        """Yield the recorded answer. Raises ProviderError, not retryable, for anything that was not recorded."""
        _refuse_options(call)
        recording = await self._recording(call.model)
        prompt = _user_text(call)
        answer = _find(recording, call, prompt)
        usage = await self._usage(recording.format, answer, prompt)
        yield ReplyPiece(text=answer.text, finish_reason="stop", usage=usage)

    async def close(self) -> None:
        """Forget the files."""
        self._recordings.clear()

    async def _recording(self, model: Model) -> _Recording:
        task = self._recordings.get(model.name)
        if task is None or (task.done() and task.exception() is not None):
            task = asyncio.create_task(asyncio.to_thread(_load, model))
            self._recordings[model.name] = task
        return await asyncio.shield(task)

    async def _usage(self, format: RecordedFormat, answer: _Answer, prompt: str) -> Usage:
        inputs, outputs = answer.input_tokens, answer.output_tokens
        if outputs is None and format.mean_output_tokens is not None:
            outputs = round(format.mean_output_tokens)
        if outputs is None:
            outputs = await self._counted(format, answer.text)
        if inputs is None and format.mean_input_tokens is not None:
            inputs = round(format.mean_input_tokens)
        if inputs is None and format.mean_total_tokens is not None and outputs is not None:
            inputs = max(0, round(format.mean_total_tokens) - outputs)
        if inputs is None:
            inputs = await self._counted(format, prompt)
        return Usage(input_tokens=inputs, output_tokens=outputs)

    async def _counted(self, format: RecordedFormat, text: str) -> int | None:
        if format.tokenizer is None or self._count_tokens is None:
            return None
        return await self._count_tokens(format.tokenizer, text)


def _refuse_options(call: ProviderCall) -> None:
    sampling = call.sampling
    asked = {
        "logprobs": sampling.logprobs,
        "stop": sampling.stop,
        "top_k": sampling.top_k,
        "logit_bias": sampling.logit_bias,
        "structured_outputs": call.rules.requested,
    }
    for name, value in asked.items():
        if value:
            raise ProviderError(
                f"{call.model.name!r} serves recorded answers: {name!r} cannot be applied to them; leave it out.",
                retryable=False,
                param=name,
                code="not_recorded",
            )


def _user_text(call: ProviderCall) -> str:
    if len(call.messages) != 1 or call.messages[0].role != "user":
        raise ProviderError(
            f"{call.model.name!r} serves recorded answers to single user messages; send exactly one.",
            retryable=False,
            param="messages",
            code="not_recorded",
        )
    return call.messages[0].text


def _refused(call: ProviderCall, why: str) -> ProviderError:
    return ProviderError(f"{call.model.name!r}: {why}", retryable=False, param="messages", code="not_recorded")


def _find(recording: _Recording, call: ProviderCall, prompt: str) -> _Answer:
    key = _key(recording.format, call)
    if key is not None:
        where = f"{recording.format.key} = {key!r}"
        keyed = recording.by_key.get(key, ())
        if not keyed:
            raise _refused(call, f"no answer is recorded for {where}.")
        found = tuple(answer for answer in keyed if answer.prompt in (None, prompt))
        if not found:
            raise _refused(call, f"the answer recorded for {where} is to another text.")
        return _one(call, found, f"for {where}; keep one of them in the file.")
    found = recording.by_prompt.get(prompt, ())
    if not found:
        raise _refused(call, f"no answer is recorded for this text: {prompt[:80]!r}.")
    where = recording.format.key or "a key (models.NAME.recorded.key and key_field)"
    return _one(call, found, f"for this text; tell them apart by {where}.")


def _one(call: ProviderCall, found: tuple[_Answer, ...], what: str) -> _Answer:
    """Return the answer that was recorded, once or several times alike."""
    if len({answer.text for answer in found}) > 1:
        raise _refused(call, f"{len(found)} different answers are recorded {what}")
    return found[0]


def _key(format: RecordedFormat, call: ProviderCall) -> str | None:
    if format.key is None:
        return None
    try:
        value = look_up(format.key, {"input": call.input or {}, "tags": call.tags})
    except InvalidRequest:
        return None
    return str(value)


def _load(model: Model) -> _Recording:
    """Read a recording. Raises ConfigError that names the line and the field."""
    settings = model.settings_as(RecordedSettings)
    format = settings.recorded
    if not format.prompt_field and (format.key is None or format.key_field is None):
        raise ConfigError(
            f"The recorded model {model.name!r} needs prompt_field, or key and key_field.", param="recorded"
        )
    by_key: dict[str, list[_Answer]] = {}
    by_prompt: dict[str, list[_Answer]] = {}
    for where, row in _rows(Path(settings.path)):
        answer = _answer(row, format, where)
        if answer is None:
            continue
        if answer.key is not None:
            by_key.setdefault(answer.key, []).append(answer)
        if answer.prompt is not None:
            by_prompt.setdefault(answer.prompt, []).append(answer)
    return _Recording(
        format=format,
        by_key={key: tuple(answers) for key, answers in by_key.items()},
        by_prompt={prompt: tuple(answers) for prompt, answers in by_prompt.items()},
    )


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path.name}, line {number}", _row(line, f"{str(path)!r}, line {number}")
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"The recorded answers {str(path)!r} cannot be read: {error}.", param="path") from error


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)  # unlike strict JSON, such files may hold NaN
        if isinstance(row, dict):
            return row
        raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The recorded answers {where} are not JSON Lines: {error}.", param="path") from error


def _answer(row: dict[str, Any], format: RecordedFormat, where: str) -> _Answer | None:
    """Return a row's answer; None where it is null: the recorded model gave none."""
    text = _field(row, format.answer_field, where)
    if text is None:
        return None
    return _Answer(
        prompt=str(_field(row, format.prompt_field, where)) if format.prompt_field else None,
        text=text if isinstance(text, str) else msgspec.json.encode(text).decode(),
        key=None if format.key_field is None else str(_field(row, format.key_field, where)),
        input_tokens=_count(row, format.input_tokens_field, where),
        output_tokens=_count(row, format.output_tokens_field, where),
    )


def _field(row: dict[str, Any], name: str, where: str) -> Any:
    # A field's name may itself hold dots; only otherwise it is a path.
    if name in row:
        return row[name]
    try:
        return look_up(name, row)
    except InvalidRequest:
        raise ConfigError(
            f"{where} has no field {name!r} (it has {', '.join(sorted(row))}); set models.NAME.recorded.", param=name
        ) from None


def _count(row: dict[str, Any], name: str | None, where: str) -> int | None:
    if name is None:
        return None
    value = _field(row, name, where)
    if value is not None and (not isinstance(value, int) or value < 0):
        raise ConfigError(f"{where}: {name!r} must be a number of tokens, not {value!r}.", param=name)
    return value


RECORDED = ProviderKind("recorded", RecordedSettings, lambda context: RecordedProvider(context.count_tokens))
