"""Feedback as it arrives: checked, given its kind and what its key vouches for.

Feedback is joined with inferences when it is read.
"""

import math
import re

from bessemer.core.access import Principal
from bessemer.core.errors import InvalidRequest
from bessemer.core.feedback import Feedback, FeedbackKind, FeedbackSource
from bessemer.core.ids import EPISODE_ID, new_id
from bessemer.core.wire import VERDICT, FeedbackRequest

_METRIC = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_TARGETS = {"inference_id": re.compile(r"inf-[0-9a-f]{32}"), "episode_id": EPISODE_ID}
_TEXTS = {"comment": FeedbackKind.COMMENT, "demonstration": FeedbackKind.DEMONSTRATION}


def found_wrong(row: Feedback) -> bool:
    """Say whether feedback finds an answer wrong: no, less than half, or what it should have been."""
    if isinstance(row.value, str):
        return row.kind is FeedbackKind.DEMONSTRATION
    return row.value < 0.5


def parse(request: FeedbackRequest, principal: Principal, now: float, *, reviewer: bool) -> Feedback:
    """Make the record of a request. `reviewer`: whether the principal may judge what others asked.

    Raises InvalidRequest that names the field and the remedy.
    """
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
    if request.trust is not None and not 0 <= request.trust <= 1:
        raise InvalidRequest(f"trust must be between 0 and 1, not {request.trust:g}.", param="trust")
    return Feedback(
        id=new_id("fb"),
        metric=request.metric,
        kind=_kind(request),
        value=request.value,
        source=_source(request.source, reviewer=reviewer),
        created_at=now,
        inference_id=request.inference_id,
        episode_id=request.episode_id,
        author=principal.name,
        trust=principal.trust,
        key_id=principal.key_id,
        reviewer=reviewer,
        claimed_author=request.author,
        claimed_trust=request.trust,
        claimed_source=request.source,
        project_id=principal.project_id,
        tags=request.tags,
    )


def _source(claimed: FeedbackSource | None, *, reviewer: bool) -> FeedbackSource:
    if reviewer:
        return claimed or FeedbackSource.HUMAN
    return FeedbackSource.APPLICATION if claimed in {None, FeedbackSource.HUMAN} else claimed


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
