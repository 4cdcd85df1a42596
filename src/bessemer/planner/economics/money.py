"""Present value, annuities, residual value and the value of being early: closed forms on numpy arrays."""

import math

import numpy as np


def discount(rate_per_year: np.ndarray, months: int) -> np.ndarray:
    """Return discount factors [n, months] at the start of each month: (1 + r)^(-t/12)."""
    return np.asarray((1.0 + rate_per_year[:, None]) ** (-np.arange(months) / 12.0))


def npv(cash: np.ndarray, rate_per_year: np.ndarray) -> np.ndarray:
    """Return the net present value [n] of monthly cash [n, months]."""
    return np.asarray((cash * discount(rate_per_year, cash.shape[1])).sum(axis=1))


def capital_recovery(rate: float, periods: float) -> float:
    """Return the level payment per period that repays 1: r(1+r)^L / ((1+r)^L - 1); 1/L at r = 0."""
    if rate == 0:
        return 1.0 / periods
    return rate / -math.expm1(-periods * math.log1p(rate))


def capital_recovery_array(rate: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """Return `capital_recovery` of arrays with positive rates."""
    return np.asarray(rate / -np.expm1(-periods * np.log1p(rate)))


def capex_per_useful_hour(
    price_usd: float, accelerators: int, residual_usd: float, rate: float, years: float, utilisation: float
) -> float:
    """Return the price of a machine per useful accelerator hour.

    ((P - PV(residual)) / n) x crf / (8760 U): residual discounted over the machine's life, U the share of hours in use.
    """
    present = price_usd - residual_usd * math.exp(-years * math.log1p(rate))
    return present / accelerators * capital_recovery(rate, years) / (8760.0 * utilisation)


def residual(share_after_3_years: np.ndarray, age_months: np.ndarray) -> np.ndarray:
    """Return the share of its price that a machine still fetches: the same loss in each month, `share` at 36."""
    return np.asarray(share_after_3_years ** (age_months / 36.0))


def value_of_launch(delay_months: np.ndarray, half_life_months: np.ndarray, durable: np.ndarray) -> np.ndarray:
    """Return what a service is worth when it starts late, over what it would be worth today.

    A durable share keeps its value; the advantage of being first halves every `half_life_months`, about a model
    generation. 1 at no delay.
    """
    return np.asarray(durable + (1.0 - durable) * 0.5 ** (delay_months / half_life_months))
