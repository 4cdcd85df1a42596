"""What an upstream answered, read at the edge into our own types: nothing foreign goes further in.

Upstreams differ in the fields that matter least, so what is odd there is unknown, never an error: counts as text,
log-probabilities without a number. What has no answer in it is a retryable ProviderError with its reason.
"""

import base64
import contextlib
import json
import math
import re
import uuid
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bessemer.core.errors import ProviderError
from bessemer.core.events import EventParser
from bessemer.core.inferences import TokenLogprob
from bessemer.core.models import Model
from bessemer.core.reply import ReplyPiece, ScoredToken, ToolCallPiece, Usage, Vector
from bessemer.gateway.providers.refusals import failure_inside

DONE = b"[DONE]"
BOM = b"\xef\xbb\xbf"
_REASONING = ("reasoning_content", "reasoning", "thinking")
_READ = frozenset({"role", "content", "refusal", "tool_calls", *_REASONING})
"""Fields of a message that are read here; others are passed on to clients of the same dialect."""
_MAX_COUNT = 10**12
_MOST_USD = 1e9
_MOST_TIER = 64
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_WORD = re.compile(r"[A-Za-z_-]{1,32}")


class AnswerReader:
    """Reads one answer of one model: a whole body, or chunk by chunk."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._called: list[str] = []
        """Ids of the tool calls so far, in order; one that its upstream did not name has a name of ours."""
        self._halves: dict[str, str] = {}
        """By field: the first half of a character that an upstream has cut in two."""

    def whole(self, body: bytes) -> ReplyPiece:
        """Read an answer in one piece: a chat.completion, or events that say the same. Raises ProviderError."""
        if looks_like_json(body):
            return self._read(self._decode(body), "message")
        events = EventParser().feed(body, last=True)
        if not events:
            raise self._unreadable("it is neither JSON nor server-sent events")
        return _joined([self.chunk(event) for event in events if event != DONE])

    def chunk(self, data: bytes) -> ReplyPiece:
        """Read one event of a streamed answer. Raises ProviderError."""
        return self._read(self._decode(data), "delta")

    def _decode(self, data: bytes) -> dict[str, Any]:
        try:
            value = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            value = self._lenient(data)
        except RecursionError:
            raise self._unreadable("its JSON is nested too deeply") from None
        if not isinstance(value, dict):
            raise self._unreadable("it is not a JSON object")
        return value

    def _lenient(self, data: bytes) -> Any:
        """Decode JSON with what strict JSON forbids but servers send: halves of characters, NaN."""
        try:
            return json.loads(data.removeprefix(BOM))
        except (ValueError, RecursionError):
            raise self._unreadable("it is not valid JSON") from None

    def _read(self, answer: dict[str, Any], kind: str) -> ReplyPiece:
        if answer.get("error") or answer.get("object") == "error":
            raise failure_inside(self._model, answer)
        choice = _first_choice(answer.get("choices"))
        message = _object(choice.get(kind))
        if message is None:  # a whole answer in an event, or the reverse
            message = _object(choice.get("message" if kind == "delta" else "delta"))
        if message is None:
            if kind == "message":
                raise self._unreadable("it has no message")
            message = {}
        text, thought = self._content(message.get("content"))
        reasoning = ""
        for name in _REASONING:
            if name in message and (reasoning := _plain(message[name])):
                break
        finished = _finish_reason(choice.get("finish_reason")) or ("stop" if kind == "message" else None)
        ends = finished is not None
        return ReplyPiece(
            text=self._together("text", text, ends=ends),
            reasoning=self._together("reasoning", reasoning or thought, ends=ends),
            refusal=self._together("refusal", _plain(message.get("refusal")), ends=ends),
            tool_calls=self._calls(message.get("tool_calls")),
            extra=_unread(message),
            tokens=_tokens(choice.get("logprobs")),
            finish_reason=finished,
            usage=_usage(answer.get("usage"), answer.get("service_tier")),
        )

    def vectors(self, body: bytes, count: int) -> ReplyPiece:
        """Read a list of embeddings, one for each of `count` texts. Raises ProviderError."""
        answer = self._decode(body)
        if answer.get("error") or answer.get("object") == "error":
            raise failure_inside(self._model, answer)
        data = answer.get("data")
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        by_place = {index if type(index := row.get("index")) is int else place: row for place, row in enumerate(rows)}
        found = [_vector(by_place[place].get("embedding")) for place in range(count) if place in by_place]
        vectors = tuple(vector for vector in found if vector is not None)
        if len(vectors) != count:
            raise self._unreadable(f"it has {len(vectors)} of {count} vectors")
        usage = _usage(answer.get("usage"), answer.get("service_tier")) or Usage()
        return ReplyPiece(vectors=vectors, finish_reason="stop", usage=msgspec.structs.replace(usage, output_tokens=0))

    def _calls(self, calls: Any) -> tuple[ToolCallPiece, ...]:
        """Read tool calls, whole or what is added to them: some servers give no index, or no id, and arguments as JSON.

        A piece belongs to the call of its index; without one to that of its id, else to the last, or begins one.
        """
        found: list[ToolCallPiece] = []
        for call in calls if isinstance(calls, list) else ():
            if not isinstance(call, dict):
                continue
            kind: Literal["function", "custom"] = "custom" if isinstance(call.get("custom"), dict) else "function"
            said = _object(call.get(kind)) or {}
            arguments = said.get("arguments" if kind == "function" else "input")
            text = arguments if isinstance(arguments, str) else "" if arguments is None else _encode(arguments).decode()
            name, id = _plain(said.get("name")), _plain(call.get("id"))
            index = self._place(call.get("index"), id, begins=bool(name))
            if index < len(self._called):  # id and name are told once; some servers repeat them
                found.append(ToolCallPiece(index=index, arguments=text, type=kind))
                continue
            self._called.append(id or f"call_{uuid.uuid4().hex[:24]}")
            found.append(ToolCallPiece(index=index, id=self._called[-1], name=name, arguments=text, type=kind))
        return tuple(found)

    def _place(self, index: Any, id: str, *, begins: bool) -> int:
        known = len(self._called)
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index <= known:
            return index
        if id and id in self._called:
            return self._called.index(id)
        return known if id or begins or not known else known - 1

    def _content(self, content: Any) -> tuple[str, str]:
        """Return a content's text and the reasoning in it: text, or a list of parts of both."""
        if content is None or isinstance(content, str):
            return content or "", ""
        parts = content if isinstance(content, list) else [content]
        text, thought = [], []
        for part in parts:
            if isinstance(part, str):
                text.append(part)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                text.append(part["text"])
            elif isinstance(part, dict) and part.get("type") in {"thinking", "reasoning"}:
                thought.append(_plain(part.get("thinking") or part.get("reasoning")))
            else:
                raise self._unreadable("its content is not text")
        return "".join(text), "".join(thought)

    def _together(self, field: str, text: str, *, ends: bool) -> str:
        """Join halves of characters that were cut between chunks; a half that stays alone becomes U+FFFD."""
        if not self._halves and text.isascii():
            return text
        text = self._halves.pop(field, "") + text
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
        if not ends and "\ud800" <= text[-1] <= "\udbff":
            self._halves[field] = text[-1]
            text = text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _unreadable(self, why: str) -> ProviderError:
        return ProviderError(
            f"{self._model.name!r}: the upstream's answer cannot be read: {why}.", code="upstream_unreadable"
        )


def _unread(message: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that say something and are read by nobody here."""
    names = message.keys() - _READ
    return {name: message[name] for name in names if message[name] not in (None, [], "")} if names else {}


def looks_like_json(body: bytes | bytearray) -> bool:
    """Say whether a body is JSON and not events, whatever its media type says: no event begins with a brace."""
    return body.removeprefix(BOM).lstrip().startswith((b"{", b"["))


def _joined(chunks: Sequence[ReplyPiece]) -> ReplyPiece:
    """Return one chunk that says what all of them say."""
    return ReplyPiece(
        text="".join(chunk.text for chunk in chunks),
        reasoning="".join(chunk.reasoning for chunk in chunks),
        refusal="".join(chunk.refusal for chunk in chunks),
        tool_calls=tuple(call for chunk in chunks for call in chunk.tool_calls),
        extra={name: value for chunk in chunks for name, value in chunk.extra.items()},
        tokens=tuple(token for chunk in chunks for token in chunk.tokens),
        finish_reason=next((chunk.finish_reason for chunk in reversed(chunks) if chunk.finish_reason), None),
        usage=next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None),
    )


def _vector(value: Any) -> Vector | None:
    """Return numbers or base64 of float32 as it came; None for what is neither."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return value if value and len(base64.b64decode(value, validate=True)) % 4 == 0 else None
        return None
    numbers = isinstance(value, list) and value and all(isinstance(x, int | float) for x in value)
    return value if numbers else None


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _first_choice(choices: Any) -> dict[str, Any]:
    """Return the choice of index 0, an empty one where there is none; more than one was not asked for."""
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and (not (index := choice.get("index")) or str(index) == "0"):
                return choice
    return {}


def _finish_reason(value: Any) -> str | None:
    """Return a reason that is a word; None for none, `stop` for what is no word but says that it ended."""
    if not value:
        return None
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "stop"


def _plain(value: Any) -> str:
    """Return text as it is, the text of parts joined, of anything else nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_plain, value))
    if isinstance(value, dict):
        return _plain(value.get("text") or value.get("content"))
    return ""


def _tokens(logprobs: Any) -> tuple[ScoredToken, ...]:
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(entries, list):
        return ()
    return tuple(
        ScoredToken(
            token=_token(entry),
            alternatives=tuple(_token(other) for other in entry.get("top_logprobs") or () if isinstance(other, dict))
            if isinstance(entry.get("top_logprobs"), list)
            else (),
        )
        for entry in entries
        if isinstance(entry, dict)
    )


def _token(entry: dict[str, Any]) -> TokenLogprob:
    """Read a token; a log-probability that is no number is NaN: unknown."""
    token, logprob = entry.get("token"), entry.get("logprob")
    try:
        number = math.nan if logprob is None or isinstance(logprob, bool) else float(logprob)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    text = token if isinstance(token, str) else ""
    return TokenLogprob(token=text.encode(errors="replace").decode(), logprob=number)


def _usage(usage: Any, service_tier: Any) -> Usage | None:
    counts = _object(usage)
    if counts is None:
        return None
    details = _object(counts.get("prompt_tokens_details")) or {}
    return Usage(
        input_tokens=_count(counts.get("prompt_tokens")),
        output_tokens=_count(counts.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")),
        details={name: counts[name] for name in _DETAILS if _object(counts.get(name))},
        service_tier=service_tier if isinstance(service_tier, str) and len(service_tier) <= _MOST_TIER else None,
        stated_usd=_dollars(counts.get("cost")),
    )


def _dollars(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST_USD
    return float(value) if number else None


def _count(value: Any) -> int | None:
    """Read a number of tokens, also one written as text or with a point; anything else is unknown."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() and 0 <= number <= _MAX_COUNT else None
