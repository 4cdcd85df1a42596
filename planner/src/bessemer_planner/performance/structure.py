"""L2: how far real engines are from the peaks, learned per term with partial pooling.

A time is `sum over terms of exp(base[term] + deviations) * peak_seconds[term]`. Deviations belong to levels (engine,
version, architecture, model, precision, parallelism and some of their pairs); each is shrunk to zero by its own
width, so a level never measured predicts with what its parents know, and says how unsure that makes it. All
coefficients are positive: predicted times are monotone in concurrency and length.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = dict[str, str]


class Level(msgspec.Struct, frozen=True):
    """One kind of level: how far it may deviate, and whether it scales all terms alike or each group on its own."""

    kind: str
    width: float
    whole: bool = False
    only: tuple[str, ...] = ()
    """Groups or terms that may deviate, each on its own; empty: all groups."""


class Tilt(msgspec.Struct, frozen=True):
    """A number known of every deployment that may scale a term: `exp(slope * number)`, the slope is learned."""

    kind: str
    term: str
    """A term, a group of terms, or one of the recipe's spans."""
    width: float


class Recipe(msgspec.Struct, frozen=True):
    """What is fitted: terms, their groups, where the base starts, and the levels that may deviate."""

    terms: tuple[str, ...]
    groups: dict[str, str]
    """Term -> group; a level that is not whole has one deviation per group."""
    start: tuple[float, ...]
    levels: tuple[Level, ...]
    noise: float
    """Scatter of the logarithm of repeated measurements."""
    base_width: float
    tilts: tuple[Tilt, ...] = ()
    base_widths: dict[str, float] = {}
    """Terms whose base is known better or worse than `base_width`."""
    spans: dict[str, tuple[str, ...]] = {}
    """Name -> terms that a tilt may scale together."""


class Structure:
    """A fitted recipe: base of every term, deviations of every level seen, and their posterior covariance."""

    def __init__(self, recipe: Recipe, keys: tuple[str, ...], theta: Array, covariance: Array) -> None:
        """`theta` is the base, then one deviation per key; `covariance` [len(theta), len(theta)] belongs to it."""
        self.recipe = recipe
        self.keys = keys
        self.theta = theta
        self.covariance = covariance
        self._index = {key: number for number, key in enumerate(keys, start=len(recipe.terms))}
        self._reach = _reach(recipe, keys)

    def coefficients(self, values: Values, tilts: dict[str, float] | None = None) -> Array:
        """Return the coefficient of every term for one deployment's level values."""
        count = len(self.recipe.terms)
        logs = self.theta[:count].copy()
        for number, amount in self._members(values, tilts)[0]:
            logs += self.theta[number] * amount * self._reach[:, number - count]
        return np.exp(logs)

    def seconds(self, values: Values, peaks: Array, tilts: dict[str, float] | None = None) -> tuple[Array, Array]:
        """Return predicted seconds [n] of `peaks` [n, terms], and the standard deviation of their logarithm [n]."""
        count = len(self.recipe.terms)
        parts = peaks * self.coefficients(values, tilts)
        total = parts.sum(axis=1)
        shares = parts / total[:, None]
        members, unseen = self._members(values, tilts)
        numbers = [number for number, _ in members]
        amounts = np.array([amount for _, amount in members])
        reached = shares @ self._reach[:, [number - count for number in numbers]] * amounts
        gradient = np.concatenate([shares, reached], axis=1)
        at = np.array([*range(count), *numbers])
        variance = np.einsum("ni,ij,nj->n", gradient, self.covariance[np.ix_(at, at)], gradient)
        for width, terms in unseen:
            variance = variance + width**2 * (shares @ terms) ** 2
        return total, np.sqrt(np.maximum(variance, 0.0) + self.recipe.noise**2)

    def _members(
        self, values: Values, tilts: dict[str, float] | None
    ) -> tuple[list[tuple[int, float]], list[tuple[float, Array]]]:
        """Split one deployment's levels into those fitted (index, amount) and those never seen (width, terms)."""
        known, unseen = [], []
        for kind, value, group, width in _cells(self.recipe, values):
            number = self._index.get(f"{kind}|{value}|{group}")
            if number is None:
                unseen.append((width, _reach(self.recipe, (f"{kind}|{value}|{group}",))[:, 0]))
            else:
                known.append((number, 1.0))
        for tilt in self.recipe.tilts:
            amount = (tilts or {}).get(tilt.kind, 0.0)
            number = self._index.get(f"{tilt.kind}||{tilt.term}")
            if number is not None and amount:
                known.append((number, amount))
        return known, unseen


def fit_structure(
    recipe: Recipe,
    peaks: Array,
    values: list[Values],
    seconds: Array,
    weights: Array,
    *,
    tilts: list[dict[str, float]] | None = None,
    begin: Structure | None = None,
    iterations: int = 20,
) -> Structure:
    """Fit base and deviations to measured `seconds` [n] by Gauss-Newton on their logarithm.

    `peaks` [n, terms] are the seconds at peak rates; the recipe's starting base is also its prior. Errors beyond two
    `noise` count linearly (Huber), so single bad rows do not steer. `begin` is a fit to start the search from.
    """
    keys, member, widths = _design(recipe, values, tilts or [{}] * len(values))
    reach, count, noise = _reach(recipe, keys), len(recipe.terms), recipe.noise
    start = np.concatenate([recipe.start, np.zeros(len(keys))])
    base_widths = np.array([recipe.base_widths.get(term, recipe.base_width) for term in recipe.terms])
    penalty = np.concatenate([base_widths**-2, widths**-2])
    target, theta = np.log(seconds), start.copy()
    if begin is not None:
        known = dict(zip(begin.keys, begin.theta[count:], strict=True))
        theta = np.concatenate([begin.theta[:count], [known.get(key, 0.0) for key in keys]])

    def at(theta: Array) -> tuple[Array, Array, float]:
        """Return shares [n, terms], residuals [n], and the penalised Huber loss."""
        parts = np.exp(theta[:count] + (member * theta[count:]) @ reach.T) * peaks
        total = parts.sum(axis=1)
        residual = target - np.log(total)
        far = np.maximum(1.0, np.abs(residual) / (2.0 * noise))
        loss = float((weights * (residual / noise) ** 2 * (2.0 * far - 1.0) / far**2).sum())
        return parts / total[:, None], residual, loss + float((penalty * (theta - start) ** 2).sum())

    shares, residual, loss = at(theta)
    hessian = np.diag(penalty)
    for _ in range(iterations):
        weight = weights / np.maximum(1.0, np.abs(residual) / (2.0 * noise)) / noise**2
        jacobian = np.concatenate([shares, member * (shares @ reach)], axis=1)
        hessian = (jacobian * weight[:, None]).T @ jacobian + np.diag(penalty)
        step = np.linalg.solve(hessian, jacobian.T @ (weight * residual) - penalty * (theta - start))
        step = np.clip(step, -0.7, 0.7)
        before = loss
        for _ in range(6):
            shares, residual, loss = at(theta + step)
            if loss < before:
                break
            step = step / 2.0
        theta = theta + step
        if before - loss < 1e-4 * before:
            break
    return Structure(recipe, keys, theta, np.linalg.inv(hessian))


def _cells(recipe: Recipe, values: Values) -> list[tuple[str, str, str, float]]:
    """Return (kind, value, group, width) of every level that one deployment belongs to."""
    groups = tuple(sorted(set(recipe.groups.values())))
    cells: list[tuple[str, str, str, float]] = []
    for level in recipe.levels:
        value = values.get(level.kind, "?")
        of_level = level.only or (("all",) if level.whole else groups)
        cells.extend((level.kind, value, group, level.width) for group in of_level)
    return cells


def _reach(recipe: Recipe, keys: tuple[str, ...]) -> Array:
    """Return the 0/1 matrix [terms, keys]: which terms a key's deviation scales."""
    groups = [key.rsplit("|", 1)[1] for key in keys]

    def scales(group: str, term: str) -> bool:
        return group in ("all", recipe.groups[term], term) or term in recipe.spans.get(group, ())

    return np.array(
        [[float(scales(group, term)) for group in groups] for term in recipe.terms], dtype=np.float64
    ).reshape(len(recipe.terms), len(keys))


def _design(
    recipe: Recipe, values: list[Values], tilts: list[dict[str, float]]
) -> tuple[tuple[str, ...], Array, Array]:
    """Index the levels that occur; return keys, the matrix [rows, keys] of membership, and the keys' widths."""
    index: dict[str, int] = {}
    widths: list[float] = []
    cells: list[tuple[int, int, float]] = []

    def at(key: str, width: float) -> int:
        if key not in index:
            index[key] = len(index)
            widths.append(width)
        return index[key]

    for row, (of_row, tilt_of_row) in enumerate(zip(values, tilts, strict=True)):
        for kind, value, group, width in _cells(recipe, of_row):
            if value != "?":
                cells.append((row, at(f"{kind}|{value}|{group}", width), 1.0))
        tilted = ((tilt, tilt_of_row.get(tilt.kind, 0.0)) for tilt in recipe.tilts)
        cells.extend((row, at(f"{t.kind}||{t.term}", t.width), amount) for t, amount in tilted if amount)
    member = np.zeros((len(values), len(index)))
    for row, column, amount in cells:
        member[row, column] = amount
    return tuple(index), member, np.array(widths)
