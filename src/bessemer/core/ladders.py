"""The nouns of a ladder: rules that are written for it, its rungs as they were scored, the path that was tested, the
route that is proposed.
"""

import re
from typing import Annotated, Final

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.routes import Guarantee, Monitor, Step
from bessemer.core.types import Frozen, Interval

RECORD: Final = "record"
"""Name of all fields together, in conditions on two records."""
_CONDITION: Final = re.compile(
    r"has \S.*|(?:both have|one alone has) \S+|.+ is \S.*|.+ (?:equal|differs|missing)|.+ (?:alike|unlike) 0\.[3-9]",
    re.DOTALL,
)
_Line = Annotated[str, msgspec.Meta(max_length=4096)]


class WrittenRule(Frozen, frozen=True, forbid_unknown_fields=True):
    """When all conditions hold, the answer is this one."""

    when: Annotated[tuple[_Line, ...], msgspec.Meta(min_length=1, max_length=8)]
    answer: _Line


def check_condition(condition: str) -> None:
    """Raise InvalidRequest for a line that is no condition, naming those that there are."""
    if not _CONDITION.fullmatch(condition):
        raise InvalidRequest(
            f"{condition!r} is no condition. Of a text: 'has WORD' or 'has WORD WORD'; of an input: 'FIELD is VALUE'; "
            "of two records: 'FIELD equal', 'FIELD differs', 'FIELD missing', 'FIELD alike 0.8', 'FIELD unlike 0.5' "
            f"(tenths from 0.3 to 0.9; {RECORD!r}: all fields), 'both have WORD', 'one alone has WORD'.",
            param="rules",
        )


class RungRow(Frozen, frozen=True):
    """One rung, scored on the selection split."""

    kind: str
    """Of the fit; `model` for one that was there, `incumbent` for the last."""
    version: str | None
    quality: Interval | None
    n: int
    usd_per_1k: float | None
    ms: float | None
    """Median of its answers' milliseconds, the gateway included; None where they were recorded earlier."""
    fit_s: float | None
    ece: float | None
    """Expected calibration error of its confidence, without what chance alone makes of it."""
    skipped: str | None = None
    estimate: Interval | None = None
    """Share of right answers by the verdicts on what traffic was shown, where a route drew that at random: doubly
    robust; None where it says nothing.
    """


class LadderPoint(Frozen, frozen=True):
    """One vector of thresholds on the path that was tested."""

    thresholds: tuple[float | None, ...]
    """Of each rung but the last; None: it is never asked."""
    usd_per_1k: float | None
    risk: float
    p_value: float | None


class ModelWorth(Frozen, frozen=True):
    """Whether a language model pays for what the rungs hand over."""

    model: str
    """A version that joined, or a configured model that could be tuned."""
    tuned: bool
    """False: asked a few of the items to see what it costs; what it would be after tuning is not known."""
    n: int
    """Selection items that the rungs hand over, of those it answered."""
    quality: Interval | None
    """Its score on these."""
    usd_per_1k: float | None
    """Of asking it; untuned: at least."""
    saves_usd_per_1k: float | None
    """Of 1,000 requests of the route, by the cheapest thresholds that may be certified; untuned: at most."""
    gain: float | None
    """What the route's score rises by with these thresholds; None for an untuned one."""
    pays: bool | None
    """None: not known, as of one that is untuned and may pay."""
    reason: str


class HandedOver(Frozen, frozen=True):
    """What is left to the incumbent, on the selection items: by the proposed route, all where there is none.

    Where a language model joins: by the cheapest thresholds of rungs that the test would certify on items like these.
    """

    n: int
    share: float
    quality: Interval | None
    """The incumbent's, on these."""
    usd_per_1k: float | None
    """Of 1,000 requests of the route, the rungs included."""
    models: tuple[ModelWorth, ...] = ()


class LadderResult(Frozen, frozen=True):
    """What was fitted, measured and decided."""

    route: str
    incumbent: str
    rungs: tuple[RungRow, ...]
    best_single: str | None
    """The cheapest version of at least the quality that was asked for."""
    steps: tuple[Step, ...]
    """Of the route that is proposed; none: nothing was certified."""
    shares: tuple[float, ...]
    """Part of the calibration items that each step answers."""
    usd_per_1k: float | None
    """Of the proposed route."""
    guarantee: Guarantee | None
    curve: tuple[LadderPoint, ...]
    look: int
    """Which one this was at the calibration items; 0: they were not looked at."""
    delta_spent: float
    summary: str
    seconds: float
    applied: bool
    monitor: Monitor | None = None
    """How the proposed route is watched; None: it has no rung before the last, or an earlier release proposed it."""
    handed_over: HandedOver | None = None
    """None in a result of an earlier release."""

    @property
    def may_pay(self) -> bool:
        """Whether a language model pays for what the rungs hand over, or may once it is tuned."""
        return self.handed_over is not None and any(one.pays is not False for one in self.handed_over.models)
