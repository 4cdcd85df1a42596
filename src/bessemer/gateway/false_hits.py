"""What online checks have shown of a route's look-alike answers: evidence that few enough of them are wrong.

Each check is a bet against "at least the budget is wrong": a bettor of the share q below the budget b multiplies his
wealth by (1 − q)/(1 − b) for a right answer and by q/b for a wrong one. Whatever the true share above b, the mean of
their wealth is a supermartingale from 1, so that it reaches 1/δ with a chance of at most δ at any time (Ville): the
bound holds however often it is looked at. Wealth above a multiple of that is given away, so that what was shown long
ago does not pay for what goes wrong now.
"""

import math
from typing import Final

DELTA: Final = 0.05
"""Chance that a route is ever let serve more wrong answers than its budget, while nothing about it changes."""
_SHARES: Final = (0.0, 0.1, 0.25, 0.5)
"""Of the budget: what the bettors hold to be wrong."""
_MOST: Final = math.log(10 / DELTA)


class FalseHits:
    """Checks of one route's look-alike answers, as it stands."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.checked = self.wrong = 0
        self._wealth = [0.0] * len(_SHARES)

    def add(self, *, wrong: bool) -> None:
        """Take in what one check showed."""
        self.checked += 1
        self.wrong += wrong
        gains = _gains(self.budget, int(wrong), int(not wrong))
        self._wealth = [min(_MOST, old + gain) for old, gain in zip(self._wealth, gains, strict=True)]

    @property
    def proven(self) -> bool:
        """Whether answers may be given: the share of wrong ones is below the budget."""
        return _mean(self._wealth) >= 1 / DELTA

    @property
    def bound(self) -> float:
        """Upper bound of the share of wrong answers by all checks so far, with a confidence of 1 − DELTA."""
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            shown = _mean(_gains(middle, self.wrong, self.checked - self.wrong)) >= 1 / DELTA
            low, high = (low, middle) if shown else (middle, high)
        return high


def _gains(budget: float, wrong: int, right: int) -> list[float]:
    """Return the logarithm of what each bettor's wealth is multiplied by."""
    return [
        (wrong * (math.log(share) if share else -math.inf) if wrong else 0.0)
        + right * math.log((1 - share * budget) / (1 - budget))
        for share in _SHARES
    ]


def _mean(wealth: list[float]) -> float:
    return sum(math.exp(min(one, 700.0)) for one in wealth) / len(wealth)
