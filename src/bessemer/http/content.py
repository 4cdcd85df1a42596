"""What a key that may not read content sees instead of it: null, and `content: "withheld"` beside it.

Content is what was asked, answered and said; log-probabilities of tokens and labels, and hashes of inputs, tell it too.
"""

from typing import Any

import msgspec

from bessemer.core.types import JSON, Action, Feedback, Inference, Principal, as_json

_INFERENCE = ("messages", "input", "input_sha256", "output", "reasoning", "refusal")
_CALL = ("output", "token_logprobs", "choice_logprobs", "reasoning", "refusal")


def shown_inference(row: Inference, principal: Principal) -> Inference | JSON:
    """Return the inference as the principal may see it; what an upstream said of a failure is for owners alone."""
    if not principal.may(Action.GOVERN) and any(call.error_detail is not None for call in row.calls):
        calls = tuple(msgspec.structs.replace(call, error_detail=None) for call in row.calls)
        row = msgspec.structs.replace(row, calls=calls)
    if principal.may(Action.CONTENT):
        return row
    shown = _withheld(as_json(row), _INFERENCE)
    shown["calls"] = [_without(call, _CALL) for call in shown["calls"]]
    return shown


def shown_feedback(row: Feedback, principal: Principal) -> Feedback | JSON:
    """Return the feedback as the principal may see it: verdicts and scores always, texts only with the right."""
    if principal.may(Action.CONTENT) or not isinstance(row.value, str):
        return row
    return _withheld(as_json(row), ("value",))


def _withheld(row: JSON, fields: tuple[str, ...]) -> JSON:
    return _without(row, fields) | {"content": "withheld"}


def _without(row: JSON, fields: tuple[str, ...]) -> dict[str, Any]:
    return row | dict.fromkeys(fields)
