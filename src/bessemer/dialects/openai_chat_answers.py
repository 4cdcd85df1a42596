"""Answers of OpenAI's chat completions: a chat.completion, or the server-sent events of a streamed one."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import msgspec

from bessemer.core.conversation import Conversation
from bessemer.core.errors import BessemerError
from bessemer.core.inferences import TokenLogprob
from bessemer.core.openai_chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatDelta,
    ChatMessage,
    ChatUsage,
    Choice,
    ChunkChoice,
    ResponseExtension,
)
from bessemer.core.reply import Reply, ReplyHead, ReplyPiece, ScoredToken, ToolCallPiece, Usage
from bessemer.core.totals import total
from bessemer.core.types import JSON, as_json

Said = TypeVar("Said", ChatMessage, ChatDelta)
_encode = msgspec.json.Encoder().encode
_DONE = b"data: [DONE]\n\n"
_NOTHING = ChatDelta()


def completion_of(conversation: Conversation, replies: Sequence[Reply]) -> ChatCompletion:
    """Return finished answers as OpenAI's `chat.completion`: a choice each, named and dated by the first.

    The prompt is counted once, as OpenAI does; the cost is that of all.
    """
    first = replies[0]
    extension = extension_of(first)
    if len(replies) > 1:
        extension = msgspec.structs.replace(
            extension,
            inference_ids=[reply.inference_id for reply in replies],
            cost_usd=total([reply.cost_usd for reply in replies]),
        )
    return ChatCompletion(
        id=_completion_id(first),
        created=int(first.created_at),
        model=first.model,
        choices=[
            Choice(
                index=index,
                message=_message(reply),
                finish_reason=reply.finish_reason,
                logprobs=_logprobs(conversation, reply.tokens),
            )
            for index, reply in enumerate(replies)
        ],
        usage=_usage(replies),
        bessemer=extension,
    )


def _message(reply: Reply) -> ChatMessage:
    elsewhere = reply.refusal or reply.tool_calls
    message = ChatMessage(
        content=None if elsewhere and not reply.text else reply.text,
        refusal=reply.refusal or None,
        reasoning_content=reply.reasoning or msgspec.UNSET,
        tool_calls=[call.plain() for call in reply.tool_calls] or msgspec.UNSET,
    )
    return _with(message, reply.extra)


def _delta(piece: ReplyPiece) -> ChatDelta:
    delta = ChatDelta(
        content=piece.text or None,
        reasoning_content=piece.reasoning or None,
        refusal=piece.refusal or None,
        tool_calls=[_call_delta(call) for call in piece.tool_calls] or None,
    )
    return _with(delta, piece.extra)


def _with(said: Said, extra: JSON) -> Said:
    """Return what is said with the fields that no field stands for: an object all the same, once it is encoded."""
    return cast("Said", as_json(said) | extra) if extra else said


def _call_delta(call: ToolCallPiece) -> JSON:
    key = "arguments" if call.type == "function" else "input"
    if not call.id:
        return {"index": call.index, call.type: {key: call.arguments}}
    said = {"name": call.name, key: call.arguments}
    return {"index": call.index, "id": call.id, "type": call.type, call.type: said}


def _usage(replies: Sequence[Reply]) -> ChatUsage | None:
    """Return the token counts of the answering calls; None when any are unknown."""
    usages = [usage for reply in replies if (usage := _usage_of(reply.usage)) is not None]
    if len(usages) < len(replies):
        return None
    return usages[0] if len(usages) == 1 else _summed(usages, details=None)


def _usage_of(usage: Usage | None) -> ChatUsage | None:
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = None if usage.cached_tokens is None else {"cached_tokens": usage.cached_tokens}
    return ChatUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=usage.details.get("prompt_tokens_details") or cached,
        completion_tokens_details=usage.details.get("completion_tokens_details"),
    )


def _summed(usages: Sequence[ChatUsage], details: JSON | None) -> ChatUsage:
    prompt, completion = usages[0].prompt_tokens, sum(usage.completion_tokens for usage in usages)
    return ChatUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=details,
    )


def extension_of(reply: Reply) -> ResponseExtension:
    """Return what Bessemer says of an answer beside OpenAI's own fields."""
    return ResponseExtension(
        inference_id=reply.inference_id,
        version=reply.version,
        cost_usd=reply.cost_usd,
        provider=reply.provider,
        escalated=reply.escalated,
        feedback_wanted=reply.feedback_wanted or None,
        guarantee=reply.guarantee,
    )


def _completion_id(head: ReplyHead) -> str:
    return "chatcmpl-" + head.inference_id.removeprefix("inf-")


def _logprobs(conversation: Conversation, tokens: Sequence[ScoredToken]) -> JSON | None:
    if not conversation.sampling.logprobs:
        return None
    return {"content": scored_entries(tokens, conversation.sampling.top_logprobs or 0), "refusal": None}


def scored_entries(tokens: Sequence[ScoredToken], wanted: int) -> list[JSON]:
    """Return tokens with their log-probabilities as OpenAI writes them, `wanted` alternatives beside each."""
    return [
        {**_entry(scored.token), "top_logprobs": [_entry(other) for other in scored.alternatives[:wanted]]}
        for scored in tokens
        if not scored.terminator
    ]


def _entry(token: TokenLogprob) -> dict[str, Any]:
    # A token that holds a part of a character has no text of its own, and its bytes are not kept.
    spelled = None if "\ufffd" in token.token else list(token.token.encode())
    return {"token": token.token, "logprob": token.logprob, "bytes": spelled}


def _event(value: Any) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


class ChatEvents:
    """Writes `chat.completion.chunk`s. Those of several answers are told apart by `index` and have one id, the first's;
    `bessemer.inference_id` of a choice's first and last event is the choice's own.
    """

    def __init__(self, conversation: Conversation, count: int, *, include_usage: bool) -> None:
        self._conversation = conversation
        self._count = count
        self._include_usage = include_usage
        self._id: str | None = None
        self._heads: dict[int, ReplyHead] = {}
        self._last: list[tuple[ReplyHead, ChatUsage]] = []
        """Of the answers that have ended and whose usage is known."""

    def opening(self, index: int, head: ReplyHead) -> bytes:
        """Write the event with the role."""
        self._id = self._id or _completion_id(head)
        self._heads[index] = head
        extension = ResponseExtension(inference_id=head.inference_id)
        return self._chunk(index, ChatDelta(role="assistant", content=""), extension)

    def piece(self, index: int, piece: ReplyPiece) -> bytes:
        """Write the event of a piece, where it holds something to show."""
        shown = piece.tokens and any(not scored.terminator for scored in piece.tokens)
        logprobs = _logprobs(self._conversation, piece.tokens) if shown else None
        delta = _delta(piece)
        if delta == _NOTHING:
            if logprobs is None:
                return b""
            delta = ChatDelta(content="")
        return self._chunk(index, delta, None, logprobs=logprobs)

    def closing(self, index: int, reply: Reply) -> bytes:
        """Write the event with the finish reason."""
        if (usage := _usage_of(reply.usage)) is not None:
            self._last.append((reply, usage))
        return self._chunk(index, ChatDelta(), extension_of(reply), finish_reason=reply.finish_reason)

    def end(self) -> bytes:
        """Write the usage, if it was asked for and is known, and the end."""
        if not self._include_usage or len(self._last) < self._count:
            return _DONE
        head, first = self._last[0]
        usages = [usage for _, usage in self._last]
        usage = first if len(usages) == 1 else _summed(usages, first.prompt_tokens_details)
        last = ChatCompletionChunk(  # clients take a chunk without choices for usage
            id=self._id or "", created=int(head.created_at), model=head.model, choices=[], usage=usage
        )
        return _event(last) + _DONE

    def failure(self, error: BessemerError) -> bytes:
        """Write the error: a terminal event, never followed by [DONE]."""
        return _event(error.body())

    def _chunk(
        self,
        index: int,
        delta: ChatDelta,
        extension: ResponseExtension | None,
        *,
        logprobs: JSON | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        head = self._heads[index]
        chunk = ChatCompletionChunk(
            id=self._id or "",
            created=int(head.created_at),
            model=head.model,
            choices=[ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason)],
            bessemer=extension,
        )
        return _event(chunk)
