"""Feedback as it arrives: checked, given its kind and what its key vouches for.

Feedback is joined with inferences when it is read.
"""

import math
import re

import msgspec

from bessemer.core.bounds import Name, Tags
from bessemer.core.errors import InvalidRequest
from bessemer.core.ids import EPISODE_ID, new_id
from bessemer.core.openai import StrictWire
from bessemer.core.types import Action, Feedback, FeedbackKind, FeedbackSource, Principal

VERDICT = "verdict"
"""The boolean metric that says whether an answer was right."""
_METRIC = re.compile(r"[A-Za-z_][\w.-]{0,63}")
_TARGETS = {"inference_id": re.compile(r"inf-[0-9a-f]{32}"), "episode_id": EPISODE_ID}
_TEXTS = {"comment": FeedbackKind.COMMENT, "demonstration": FeedbackKind.DEMONSTRATION}


class FeedbackRequest(StrictWire):
    """Body of POST /v1/feedback: exactly one of `inference_id` and `episode_id`."""

    metric: Name
    """`verdict` or another boolean or float metric of your own; `comment`; `demonstration` (a corrected answer)."""
    value: bool | float | str
    inference_id: Name | None = None
    episode_id: Name | None = None
    source: FeedbackSource | None = None
    """Of a reviewer's key: who or what judged, default `human`. Of an application's, `human` is a claim."""
    author: Name | None = None
    """A claim: the author is the key."""
    trust: float | None = None
    """Weight in [0, 1]: a claim, which makes the key's own trust smaller at most."""
    tags: Tags = msgspec.field(default_factory=dict)

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
    if request.trust is not None and not 0 <= request.trust <= 1:
        raise InvalidRequest(f"trust must be between 0 and 1, not {request.trust:g}.", param="trust")
    reviewer = principal.may(Action.CONTRIBUTE)
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
