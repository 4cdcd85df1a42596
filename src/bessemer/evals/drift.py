"""Has the loss risen above what was promised? A bet on audited requests that may be read at every moment.

H0: given all before, the expected loss of the next audited request is at most alpha. Bettors with constant stakes λ,
one for each possible moment at which the loss began to rise, share one unit of wealth: before request t a share π_t of
it enters the game, and wealth in the game is multiplied by 1 + λ (loss_t − alpha). Under H0 the total is a non-negative
supermartingale, so by Ville's inequality it ever reaches 1/δ with probability at most δ (2506.16416; the mixture over
beginnings: Shin, Ramdas & Rinaldo 2023, e-detectors). π_t = 100/((100 + t)(101 + t)) sums to 1.

Verdicts count in the order in which they arrive. One that comes twice counts once; a corrected or retracted one is
taken out and the rest is counted again as if it had never been: the wealth is that of a replay of what stands. An alarm
stays, whatever is retracted later.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bessemer.core.types import Frozen

Array = npt.NDArray[np.float64]
ALARM = 0.01
"""Chance of ever raising a false alarm between two calibrations."""
STAKES = np.geomspace(0.005, 0.9, 12)
"""Of the largest stake that cannot ruin, 1/(alpha − lowest)."""
_RICH = 1e100
"""Wealth is cut here: less only errs on the safe side."""
_BEGINNINGS = 100.0


class AuditedLoss(Frozen, frozen=True):
    """A verdict on an audited request, or its retraction, as it arrived."""

    id: str
    """Of the inference."""
    loss: float | None
    """In [0, 1]: wrong, or 1 − grade, or quality lost against the incumbent's shadow answer (then in [−1, 1]); None:
    retracted."""
    chance: float = 1.0
    """P(asked) with which it was audited."""


class Alarm(NamedTuple):
    """When and by what the alarm was raised."""

    event: int
    """Place, from 1, in the order of arrival."""
    wealth: float


class Wealth(NamedTuple):
    """What the bettors own: in the game by stake [..., S], and not yet; after `played` requests."""

    playing: Array
    waiting: float = 1.0
    played: int = 0

    @property
    def total(self) -> Array:
        """Evidence against H0 [...]."""
        return np.asarray(self.playing.sum(axis=-1) + self.waiting)

    def after(self, gain: npt.ArrayLike, largest: float) -> "Wealth":
        """Return the wealth after one more request with gain = loss − alpha [...]; `largest` stake that is safe."""
        start = _BEGINNINGS / ((_BEGINNINGS + self.played) * (_BEGINNINGS + self.played + 1))
        growth = 1.0 + largest * STAKES * np.asarray(gain, dtype=np.float64)[..., None]
        playing = np.minimum((self.playing + start / len(STAKES)) * growth, _RICH)
        return Wealth(playing, self.waiting - start, self.played + 1)


NOTHING = Wealth(np.zeros(len(STAKES)))


class LossMonitor:
    """One stream of audited losses against a bound. Its state is its log: `replay` makes it again."""

    def __init__(self, alpha: float, *, delta: float = ALARM, least_chance: float = 1.0, lowest: float = 0.0) -> None:
        """`least_chance`: the smallest P(asked) of all requests; `lowest` possible loss (−1 for differences)."""
        if not (0 < delta < 1 and 0 < least_chance <= 1 and lowest <= 0 and alpha > lowest):
            raise ValueError("a monitor needs 0 < delta < 1, 0 < least_chance <= 1, lowest <= 0 and alpha above it")
        self.alpha, self.delta, self._least, self._lowest = alpha, delta, least_chance, lowest
        self._largest = 1.0 / (alpha - lowest)
        self._gains: dict[str, float] = {}
        """By inference, in order of arrival."""
        self._events = 0
        self.alarm: Alarm | None = None
        self._wealth = NOTHING

    @property
    def wealth(self) -> float:
        """Evidence now that the loss is above alpha: 1 at first; 1/delta raises the alarm."""
        return float(self._wealth.total)

    @property
    def n(self) -> int:
        """Audited requests that count."""
        return len(self._gains)

    @property
    def loss(self) -> float | None:
        """Mean loss of those that count, each as often as it stands for others; None: there are none."""
        return self.alpha + sum(self._gains.values()) / len(self._gains) if self._gains else None

    def add(self, event: AuditedLoss) -> None:
        """Count what arrived. Raises ValueError for a loss or chance out of range."""
        self._events += 1
        if event.loss is None:
            if self._gains.pop(event.id, None) is not None:
                self._recount()
        else:
            gain = self._gain(event)
            known = self._gains.get(event.id)
            if known is None:
                self._gains[event.id] = gain
                self._wealth = self._wealth.after(gain, self._largest)
            elif known != gain:
                # A correction is a retraction and a verdict that arrives now.
                del self._gains[event.id]
                self._gains[event.id] = gain
                self._recount()
        if self.alarm is None and self.wealth >= 1.0 / self.delta:
            self.alarm = Alarm(self._events, self.wealth)

    def _gain(self, event: AuditedLoss) -> float:
        assert event.loss is not None
        if not self._lowest <= event.loss <= 1 or not self._least <= event.chance <= 1:
            raise ValueError(
                f"a loss lies in [{self._lowest:g}, 1], P(asked) in [{self._least:g}, 1]; not {event.loss:g} and "
                f"{event.chance:g}"
            )
        return (event.loss - self.alpha) * self._least / event.chance

    def _recount(self) -> None:
        self._wealth = NOTHING
        for gain in self._gains.values():
            self._wealth = self._wealth.after(gain, self._largest)


def replay(monitor: LossMonitor, events: Iterable[AuditedLoss]) -> LossMonitor:
    """Give a fresh monitor all that arrived, in order; returns it."""
    for event in events:
        monitor.add(event)
    return monitor


class OutcomeMonitor:
    """Does a business outcome go another way than what was predicted of it?

    Two bets, each at half of delta: that the outcome is on average more than `tolerance` above, or below, the
    prediction. Outcomes and predictions lie in [low, high], in the outcome's own unit.
    """

    def __init__(self, low: float, high: float, tolerance: float, *, delta: float = ALARM) -> None:
        """Raises ValueError for an empty range or a tolerance outside it."""
        span = high - low
        if not (math.isfinite(span) and span > 0 and 0 < tolerance < span):
            raise ValueError("an outcome needs low < high, and a tolerance between 0 and their distance")
        self._low, self._span = low, span
        self._above, self._below = (
            LossMonitor(tolerance / span, delta=delta / 2, lowest=-1.0) for _ in ("above", "below")
        )

    @property
    def alarm(self) -> str | None:
        """Where outcomes are, seen from the prediction, once that is beyond doubt."""
        if self._above.alarm is not None:
            return "above"
        return None if self._below.alarm is None else "below"

    def add(self, id_: str, predicted: float | None, outcome: float | None) -> None:
        """Count an outcome; None for either: it is retracted. Values beyond the range count as its ends."""
        for sign, monitor in ((1.0, self._above), (-1.0, self._below)):
            if predicted is None or outcome is None:
                monitor.add(AuditedLoss(id_, None))
                continue
            ends = [min(max(value, self._low), self._low + self._span) for value in (outcome, predicted)]
            monitor.add(AuditedLoss(id_, sign * (ends[0] - ends[1]) / self._span))
