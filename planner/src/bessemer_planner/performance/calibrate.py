"""Fitting the two recipes to measured rows, and how well they predict rows they never saw.

Cross-validation leaves whole groups out, a (model, GPU) pair or a GPU: rows of one sweep never stand on both sides,
and models of one shape under several names count as one model.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.errors import Unsatisfiable
from bessemer_planner.models import model_shape
from bessemer_planner.performance.capacity import capacity
from bessemer_planner.performance.levels import BenchmarkRun, level_values
from bessemer_planner.performance.measured import MeasuredRow
from bessemer_planner.performance.operators import operator_tilts
from bessemer_planner.performance.products import added_s, beyond_fit
from bessemer_planner.performance.recipes import FIRST_TERMS, first_terms, shortened_by_drafts, token_terms
from bessemer_planner.performance.step import DECODE_TERMS
from bessemer_planner.performance.structure import Recipe, Structure, Values, fit_structure
from bessemer_planner.types import Accelerator

Array = NDArray[np.float64]

_CRAMPED_TOKENS = 100_000
"""KV tokens of a deployment that was measured although the capacity rules say it does not fit."""


class FitProblem(msgspec.Struct, frozen=True):
    """Rows as a recipe needs them; one entry per row."""

    peaks: Array
    values: list[Values]
    tilts: list[dict[str, float]]
    seconds: Array
    weights: Array
    added: Array | None = None
    """What measured products take at least for the tokens of the row (`products.added_s`); None: not asked."""

    def take(self, rows: NDArray[np.int64]) -> "FitProblem":
        """Return the problem of some of the rows."""
        return FitProblem(
            self.peaks[rows],
            [self.values[i] for i in rows],
            [self.tilts[i] for i in rows],
            self.seconds[rows],
            self.weights[rows],
            None if self.added is None else self.added[rows],
        )


def row_run(row: MeasuredRow) -> BenchmarkRun:
    """Return what a row's benchmark run says of it."""
    return BenchmarkRun(
        date=row.date, kind="db" if row.source.startswith("db") else "file", speculative=row.speculative
    )


def served_batch(row: MeasuredRow, accelerator: Accelerator) -> float:
    """Sequences in flight of a measured row: its concurrency, or what its KV holds."""
    try:
        room = capacity(row.deployment, model_shape(row.model), accelerator, max_batch=row.concurrency).kv_tokens
    except Unsatisfiable:
        room = _CRAMPED_TOKENS
    return min(float(row.concurrency), max(1.0, room / (row.isl + row.osl / 2.0)))


def problems(rows: Sequence[MeasuredRow], accelerators: dict[str, Accelerator]) -> tuple[FitProblem, FitProblem]:
    """Return the time-per-output-token and the time-to-first-token problem of measured rows."""
    tokens, firsts, values, tilts, added = [], [], [], [], []
    for row in rows:
        shape, accelerator = model_shape(row.model), accelerators[row.deployment.accelerator]
        batch = np.array([served_batch(row, accelerator)])
        asked = np.array([float(row.concurrency)])
        token = token_terms(row.deployment, shape, accelerator, row.isl, row.osl, batch)
        tilt = operator_tilts(row.deployment, shape, accelerator, batch[0])
        if row.speculative:
            token, tilt = shortened_by_drafts(token, tilt, row.osl)
        first = first_terms(row.deployment, shape, accelerator, row.isl, row.osl, batch, asked)[0]
        together = batch * (1.0 + row.isl / row.osl) if row.mode == "agg" else batch
        added.append(added_s(row.deployment, shape, accelerator, together)[0])
        if row.mode != "agg":  # other workers compute the prompts: they share no step with what is decoded
            token[:, len(DECODE_TERMS) :] = 0.0
            first[FIRST_TERMS.index("step")] = 0.0
        tokens.append(token[0])
        firsts.append(first)
        values.append(level_values(row.deployment, shape, accelerator, row_run(row)))
        tilts.append(tilt)
    same = Counter((row.ttft_s, row.tpot_s) for row in rows)
    weights = np.array([1.0 / same[row.ttft_s, row.tpot_s] for row in rows])
    return (
        FitProblem(np.array(tokens), values, tilts, np.array([row.tpot_s for row in rows]), weights, np.array(added)),
        FitProblem(np.array(firsts), values, tilts, np.array([row.ttft_s for row in rows]), weights),
    )


def fit(recipe: Recipe, problem: FitProblem, *, start: Structure | None = None, iterations: int = 20) -> Structure:
    """Fit one recipe; `start` gives a fit of nearly the same rows to begin from."""
    return fit_structure(
        recipe,
        problem.peaks,
        problem.values,
        problem.seconds,
        problem.weights,
        tilts=problem.tilts,
        begin=start,
        iterations=iterations,
    )


def predict(structure: Structure, problem: FitProblem) -> tuple[Array, Array]:
    """Return predicted seconds and the standard deviation of their logarithm, per row."""
    seconds, spread = np.zeros(len(problem.values)), np.zeros(len(problem.values))
    for i, (values, tilts) in enumerate(zip(problem.values, problem.tilts, strict=True)):
        peaks = problem.peaks[i : i + 1]
        seconds[i : i + 1], spread[i : i + 1] = structure.seconds(values, peaks, tilts)
        if problem.added is not None and problem.added[i]:
            seconds[i] += beyond_fit(peaks * structure.coefficients(values, tilts), problem.added[i : i + 1])[0]
    return seconds, spread


def held_out(
    recipe: Recipe, problem: FitProblem, groups: Sequence[Hashable], progress: Callable[[Hashable], None] | None = None
) -> tuple[Array, Array]:
    """Predict every row by a fit that saw none of its group: seconds, and standard deviation of their logarithm."""
    seconds, spread = np.zeros(len(groups)), np.zeros(len(groups))
    whole = fit(recipe, problem)
    for group in sorted(set(groups), key=repr):
        out = np.array([g == group for g in groups])
        inside, outside = np.flatnonzero(out), np.flatnonzero(~out)
        structure = fit(recipe, problem.take(outside), start=whole, iterations=5)
        seconds[inside], spread[inside] = predict(structure, problem.take(inside))
        if progress is not None:
            progress(group)
    return seconds, spread
