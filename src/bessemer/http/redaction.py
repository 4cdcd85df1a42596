"""What a key that may not read content sees instead of it: null, and `content: "withheld"` beside it.

Content is what was asked, answered and said; log-probabilities of tokens and labels, and hashes of inputs, tell it too.
"""

from typing import Any

import msgspec

from bessemer.core.access import Action, Resource, ResourceKind
from bessemer.core.feedback import Feedback
from bessemer.core.inferences import Inference
from bessemer.core.types import JSON, as_json
from bessemer.http.edge import Call

_INFERENCE = ("messages", "input", "input_sha256", "output", "reasoning", "refusal", "tools", "tool_calls")
_CALL = ("output", "token_logprobs", "choice_logprobs", "reasoning", "refusal", "tool_calls")


def shown_inference(call: Call, row: Inference) -> Inference | JSON:
    """Return the inference as the caller may see it; what an upstream said of a failure is for owners alone."""
    resource = Resource(kind=ResourceKind.INFERENCE, id=row.id, project_id=row.project_id, made_by=row.key_id)
    if any(one.error_detail is not None for one in row.calls) and not call.may(Action.DIAGNOSTICS_READ, resource):
        calls = tuple(msgspec.structs.replace(one, error_detail=None) for one in row.calls)
        row = msgspec.structs.replace(row, calls=calls)
    if call.may(Action.CONTENT_READ, resource):
        return row
    shown = _withheld(as_json(row), _INFERENCE)
    shown["calls"] = [_without(one, _CALL) for one in shown["calls"]]
    return shown


def shown_feedback(call: Call, row: Feedback) -> Feedback | JSON:
    """Return the feedback as the caller may see it: verdicts and scores always, texts only with the right."""
    resource = Resource(kind=ResourceKind.FEEDBACK, id=row.id, project_id=row.project_id, made_by=row.key_id)
    if not isinstance(row.value, str) or call.may(Action.CONTENT_READ, resource):
        return row
    return _withheld(as_json(row), ("value",))


def _withheld(row: JSON, fields: tuple[str, ...]) -> JSON:
    return _without(row, fields) | {"content": "withheld"}


def _without(row: JSON, fields: tuple[str, ...]) -> dict[str, Any]:
    return row | dict.fromkeys(fields)
