"""Present value, annuities, residual value and the value of being early: closed forms on numpy arrays."""

import numpy as np


def npv(cash: np.ndarray, rate_per_year: np.ndarray) -> np.ndarray:
    """Return the net present value [n] of monthly cash [n, months], each month's at its start: (1 + r)^(-t/12)."""
    factors = (1.0 + rate_per_year[:, None]) ** (-np.arange(cash.shape[1]) / 12.0)
    return np.asarray((cash * factors).sum(axis=1))


def capital_recovery(rate: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Return the level payment per period that repays 1: r(1+r)^L / ((1+r)^L - 1), for positive rates."""
    return np.asarray(rate / -np.expm1(-periods * np.log1p(rate)))


def residual(share_after_3_years: np.ndarray, age_months: np.ndarray) -> np.ndarray:
    """Return the share of its price that a machine still fetches: the same loss in each month, `share` at 36."""
    return np.asarray(share_after_3_years ** (age_months / 36.0))


def value_of_launch(delay_months: np.ndarray, half_life_months: np.ndarray, durable: np.ndarray) -> np.ndarray:
    """Return what a service is worth when it starts late, over what it would be worth today.

    A durable share keeps its value; the advantage of being first halves every `half_life_months`, about a model
    generation. 1 at no delay.
    """
    return np.asarray(durable + (1.0 - durable) * 0.5 ** (delay_months / half_life_months))
