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
from bessemer_planner.performance.capacity import capacity, held_tokens
from bessemer_planner.performance.levels import BenchmarkRun, level_values
from bessemer_planner.performance.measured import MeasuredRow
from bessemer_planner.performance.operators import operator_tilts
from bessemer_planner.performance.products import added_s, beyond_fit
from bessemer_planner.performance.recipes import (
    FIRST_TERMS,
    TPOT,
    TTFT,
    first_terms,
    own_prompt,
    shortened_by_drafts,
    token_terms,
)
from bessemer_planner.performance.screen import started_together
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


class Prompts(msgspec.Struct, frozen=True):
    """What the first token of each row waits for, before anything is known of the engine; one entry per row."""

    own: Array
    """Peak seconds of the row's prompt [rows, PREFILL_TERMS]."""
    isl: Array
    osl: Array
    batch: Array
    asked: Array
    """Clients."""
    together: NDArray[np.bool_]
    """Prompts are computed in the steps that decode."""
    seconds: Array
    weights: Array

    def problem(self, token: FitProblem, structure: Structure) -> FitProblem:
        """Return the rows' time-to-first-token problem, with the work that `structure` expects of the engine."""
        scale = np.array([structure.coefficients(v, t) for v, t in zip(token.values, token.tilts, strict=True)])
        count = len(DECODE_TERMS)
        peaks = first_terms(
            self.own * scale[:, count:], token.peaks * scale, self.isl, self.osl, self.batch, self.asked
        )
        peaks[:, FIRST_TERMS.index("step")] *= self.together
        return FitProblem(peaks, token.values, [{} for _ in token.values], self.seconds, self.weights)


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
    return min(float(row.concurrency), max(1.0, room / held_tokens(row.deployment.engine, row.isl, row.osl)))


def problems(rows: Sequence[MeasuredRow], accelerators: dict[str, Accelerator]) -> tuple[FitProblem, Prompts]:
    """Return the time-per-output-token problem of measured rows, and what their first tokens wait for."""
    tokens, owns, batches, values, tilts, added = [], [], [], [], [], []
    for row in rows:
        shape, accelerator = model_shape(row.model), accelerators[row.deployment.accelerator]
        batch = np.array([served_batch(row, accelerator)])
        token = token_terms(row.deployment, shape, accelerator, row.isl, row.osl, batch)
        tilt = operator_tilts(row.deployment, shape, accelerator, batch[0])
        if row.speculative:
            token, tilt = shortened_by_drafts(token, tilt, row.osl)
        together = batch * (1.0 + row.isl / row.osl) if row.mode == "agg" else batch
        added.append(added_s(row.deployment, shape, accelerator, together)[0])
        if row.mode != "agg":  # other workers compute the prompts: they share no step with what is decoded
            token[:, len(DECODE_TERMS) :] = 0.0
        tokens.append(token[0])
        owns.append(own_prompt(row.deployment, shape, accelerator, row.isl))
        batches.append(batch[0])
        values.append(level_values(row.deployment, shape, accelerator, row_run(row)))
        tilts.append(tilt)
    same = Counter((row.ttft_s, row.tpot_s) for row in rows)
    weights = np.array([1.0 / same[row.ttft_s, row.tpot_s] for row in rows])
    return (
        FitProblem(np.array(tokens), values, tilts, np.array([row.tpot_s for row in rows]), weights, np.array(added)),
        Prompts(
            own=np.array(owns),
            isl=np.array([float(row.isl) for row in rows]),
            osl=np.array([float(row.osl) for row in rows]),
            batch=np.array(batches),
            asked=np.array([float(row.concurrency) for row in rows]),
            together=np.array([row.mode == "agg" for row in rows]),
            seconds=np.array([row.ttft_s for row in rows]),
            weights=np.where(started_together(rows), 0.0, weights),
        ),
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


class HeldOut(msgspec.Struct, frozen=True):
    """Predictions of every row by fits that saw none of its group: seconds, and deviation of their logarithm."""

    tpot_s: Array
    tpot_spread: Array
    ttft_s: Array
    ttft_spread: Array


def held_out(
    token: FitProblem,
    prompts: Prompts,
    groups: Sequence[Hashable],
    progress: Callable[[Hashable], None] | None = None,
) -> HeldOut:
    """Predict every row by fits of both recipes that saw none of its group."""
    found = HeldOut(*(np.zeros(len(groups)) for _ in range(4)))
    whole = fit(TPOT, token)
    for group in sorted(set(groups), key=repr):
        out = np.array([g == group for g in groups])
        inside, outside = np.flatnonzero(out), np.flatnonzero(~out)
        structure = fit(TPOT, token.take(outside), start=whole, iterations=5)
        first = prompts.problem(token, structure)
        found.tpot_s[inside], found.tpot_spread[inside] = predict(structure, token.take(inside))
        found.ttft_s[inside], found.ttft_spread[inside] = predict(fit(TTFT, first.take(outside)), first.take(inside))
        if progress is not None:
            progress(group)
    return found


def group_quantile(ratio: Array, groups: Sequence[Hashable], level: float = 0.8) -> float:
    """Return what |log error| / spread of a group never seen should stay below with probability `level`.

    Conformal over groups: rows of a group share one part, one part more stands for the new group at infinity
    (hierarchical conformal prediction, Lee, Barber and Willett 2023). The largest ratio where there are too few groups.
    """
    names, counts = np.unique([repr(group) for group in groups], return_counts=True)
    size = dict(zip(names.tolist(), counts.tolist(), strict=True))
    share = np.array([1.0 / ((len(names) + 1) * size[repr(group)]) for group in groups])
    order = np.argsort(ratio)
    at = int(np.searchsorted(np.cumsum(share[order]), level))
    return float(ratio[order][min(at, len(order) - 1)])
