"""The `score_model` grader: a judge model gives a number, read strictly.

A refusal, an answer that is not exactly a number in range, or a failed call leaves the output unscorable with its flag
set. A parse failure never becomes a default number: that would be a silent constant reward.
"""

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from bessemer.core.errors import BessemerError, InvalidRequest, told
from bessemer.core.types import JSON
from bessemer.evals.grader import (
    Failure,
    Grader,
    GraderErrors,
    GradeResult,
    Judge,
    JudgeCall,
    JudgeReply,
    Unscorable,
    fill,
    scope_of,
)

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


def parse_score(text: str | None, low: float, high: float) -> float | None:
    """Return the judge's number: a bare number, or `{"result": number}`, within [low, high]; else None."""
    if text is None:
        return None
    said = text.strip()
    value: Any = None
    if _NUMBER.fullmatch(said):
        value = float(said)
    else:
        try:
            decoded = msgspec.json.decode(said.encode(errors="replace"))
        except (msgspec.DecodeError, RecursionError):
            return None
        value = decoded.get("result") if isinstance(decoded, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return None
    return float(value)


_TEXT_PARTS = ("text", "input_text", "output_text")


_MOST_MESSAGES = 100
"""Each is filled for every answer that is graded."""


class ScoreModel(Grader):
    """Asks `model` with the filled messages; the reward is its number in `range`."""

    def __init__(
        self,
        name: str,
        *,
        model: str,
        messages: Sequence[JSON],
        sampling: JSON,
        low: float,
        high: float,
        judge: Judge,
    ) -> None:
        super().__init__(name, "score_model")
        if len(messages) > _MOST_MESSAGES:
            raise InvalidRequest(
                f"`input` of the grader {name!r} has {len(messages)} messages; give at most {_MOST_MESSAGES}.",
                param="grader.input",
            )
        self._model, self._messages, self._sampling = model, tuple(messages), sampling
        self._low, self._high, self._judge = low, high, judge

    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Ask the judge once."""
        start, reply, reward, errors, reason = time.perf_counter(), None, None, GraderErrors(), None
        try:
            reply = await self._ask(scope_of(sample, item))
            reward = self._read(reply)
        except Unscorable as problem:
            errors, reason = problem.errors, problem.reason
        tokens = reply.total_tokens if reply else None
        return GradeResult(
            name=self.name,
            type=self.type,
            reward=reward,
            errors=errors,
            execution_time=time.perf_counter() - start,
            token_usage=tokens,
            sampled_model_name=reply.model if reply else None,
            token_usage_per_model={reply.model: tokens} if reply and tokens is not None else {},
            reason=reason,
        )

    async def _ask(self, scope: JSON) -> JudgeReply:
        schema: JSON = {
            "type": "object",
            "properties": {"result": {"type": "number", "minimum": self._low, "maximum": self._high}},
            "required": ["result"],
            "additionalProperties": False,
        }
        call = JudgeCall(
            model=self._model,
            messages=tuple({**message, "content": fill(message["content"], scope)} for message in self._messages),
            sampling=self._sampling,
            response_schema=schema,
        )
        try:
            return await self._judge(call)
        except Exception as error:
            details = told(error)
            raise Unscorable(
                GraderErrors(model_grader_server_error=True, model_grader_server_error_details=details),
                self._failure(error),
            ) from error

    def _failure(self, error: Exception) -> Failure:
        """Return the judge's own error, under its own code."""
        code = (error.error_code if isinstance(error, BessemerError) else None) or "model_grader_server_error"
        return Failure(code, f"the judge {self._model!r} failed: {told(error)}")

    def _read(self, reply: JudgeReply) -> float:
        if reply.refusal:
            raise Unscorable(GraderErrors(model_grader_refusal_error=True))
        reward = parse_score(reply.text, self._low, self._high)
        if reward is None:
            raise Unscorable(GraderErrors(model_grader_parse_error=True))
        return reward


def message_text(content: Any) -> str | None:
    """Return the text of a grader's message: text, a text part, or a list of them; None when a part is not text."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        text = content.get("text")
        return text if content.get("type") in _TEXT_PARTS and isinstance(text, str) else None
    parts = [message_text(part) for part in content] if isinstance(content, list) and content else [None]
    return None if None in parts else "".join(part or "" for part in parts)
