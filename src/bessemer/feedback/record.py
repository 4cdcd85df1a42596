"""Feedback as it arrives: checked, given its kind, committed before the answer goes out.

An inference that is not in the database yet is accepted, never waited for: feedback is joined when it is read.
"""

import math
import re
import time

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.ids import EPISODE_ID, new_id
from bessemer.core.openai import StrictWire
from bessemer.core.types import Feedback, FeedbackKind, FeedbackSource, Principal
from bessemer.store.writer import Writer

VERDICT = "verdict"
"""The boolean metric that says whether an answer was right."""
_METRIC = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_TARGETS = {"inference_id": re.compile(r"inf-[0-9a-f]{32}"), "episode_id": EPISODE_ID}
_TEXTS = {"comment": FeedbackKind.COMMENT, "demonstration": FeedbackKind.DEMONSTRATION}


class FeedbackRequest(StrictWire):
    """Body of POST /v1/feedback: exactly one of `inference_id` and `episode_id`."""

    metric: str
    """`verdict` or another boolean or float metric of your own; `comment`; `demonstration` (a corrected answer)."""
    value: bool | float | str
    inference_id: str | None = None
    episode_id: str | None = None
    source: FeedbackSource = FeedbackSource.HUMAN
    author: str | None = None
    trust: float = 1.0
    """Weight in [0, 1]."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take a completion's own id for its inference: they differ in the prefix."""
        if self.inference_id is not None and self.inference_id.startswith("chatcmpl-"):
            self.inference_id = "inf-" + self.inference_id.removeprefix("chatcmpl-")


def parse(request: FeedbackRequest, principal: Principal, now: float) -> Feedback:
    """Make the record of a request. Raises InvalidRequest that names the field and the remedy."""
    if (request.inference_id is None) == (request.episode_id is None):
        raise InvalidRequest("Send exactly one of inference_id and episode_id.", param="inference_id")
    for name, pattern in _TARGETS.items():
        value = getattr(request, name)
        if value is not None and not pattern.fullmatch(value):
            raise InvalidRequest(
                f"{name} {value!r} is not one that Bessemer gave; it is `bessemer.inference_id` of an answer, or the "
                "episode that you sent.",
                param=name,
            )
    if not _METRIC.fullmatch(request.metric):
        raise InvalidRequest(
            f"metric {request.metric!r} must be a name of at most 64 letters, digits, `_`, `.` and `-`.", param="metric"
        )
    if not 0 <= request.trust <= 1:
        raise InvalidRequest(f"trust must be between 0 and 1, not {request.trust:g}.", param="trust")
    return Feedback(
        id=new_id("fb"),
        metric=request.metric,
        kind=_kind(request),
        value=request.value,
        source=request.source,
        created_at=now,
        inference_id=request.inference_id,
        episode_id=request.episode_id,
        author=request.author,
        trust=request.trust,
        key_id=principal.key_id,
        project_id=principal.project_id,
        tags=request.tags,
    )


def _kind(request: FeedbackRequest) -> FeedbackKind:
    metric, value = request.metric, request.value
    if metric in _TEXTS:
        if not isinstance(value, str):
            raise InvalidRequest(f"The value of a {metric} is text.", param="value")
        return _TEXTS[metric]
    if isinstance(value, str):
        raise InvalidRequest(
            f"The value of the metric {metric!r} must be true, false or a number; text is for `comment` and "
            "`demonstration`.",
            param="value",
        )
    if isinstance(value, bool):
        return FeedbackKind.BOOLEAN
    if metric == VERDICT:
        raise InvalidRequest("The value of `verdict` is true or false.", param="value")
    if not math.isfinite(value):
        raise InvalidRequest("The value must be a finite number.", param="value")
    return FeedbackKind.FLOAT


async def record(request: FeedbackRequest, principal: Principal, writer: Writer, now: float | None = None) -> Feedback:
    """Check and append feedback; when this returns, it survives a killed process. Raises InvalidRequest, StoreError."""
    row = parse(request, principal, time.time() if now is None else now)
    await writer.commit(row)
    return row
