"""How well the predictions hold on a file of measurements: errors, coverage and ranks, per GPU, model and framework.

Two ways to ask. `evaluate` predicts with the shipped calibration and says which rows it has seen; `evaluate_held_out`
refits without each (model, GPU) group, and without each GPU, and predicts what was left out.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from bessemer_planner.errors import InputError
from bessemer_planner.performance.calibrate import group_quantile, held_out, predict, problems
from bessemer_planner.performance.calibration import SpeedCalibration, load_calibration
from bessemer_planner.performance.measured import BadRow, MeasuredRow, read_measured
from bessemer_planner.performance.predict import operator_steady
from bessemer_planner.performance.screen import RULES, impossible, screen
from bessemer_planner.types import Accelerator

Array = NDArray[np.float64]


class Score(msgspec.Struct, frozen=True):
    """Errors of some rows, in percent of what was measured."""

    rows: int
    tpot_mape: float
    tpot_median: float
    ttft_median: float
    coverage_80_tpot: float
    coverage_80_ttft: float


class Guess(msgspec.Struct, frozen=True):
    """Predictions of some rows: seconds, and factors of their 80 % intervals (one entry per row)."""

    tpot_s: Array
    tpot_factor: Array
    ttft_s: Array
    ttft_factor: Array


class RowResult(msgspec.Struct, frozen=True):
    """One row beside its prediction; milliseconds."""

    id: str
    seen: bool
    """The calibration was fitted on this very row, or on its (model, GPU) group."""
    tpot_ms: float
    predicted_tpot_ms: tuple[float, float, float]
    """Value, low, high."""
    ttft_ms: float
    predicted_ttft_ms: tuple[float, float, float]


class PredictionErrors(msgspec.Struct, frozen=True):
    """What `bessemer plan evaluate` answers. Errors and coverage in percent; None: no aggregated row."""

    file: str
    how: str
    calibration: str
    """Day and source of the calibration."""
    rows: int
    """Aggregated rows that were believed and predicted."""
    rows_in_calibration: int
    tpot_mape: float | None
    tpot_median: float | None
    ttft_median_error: float | None
    interval_coverage_80: float | None
    interval_coverage_80_ttft: float | None
    throughput_rank_correlation: float | None
    """Spearman's rank correlation of output tokens/s per GPU over all rows; None, too, when all are alike."""
    throughput_rank_correlation_best: float | None
    """The same over the best point of each (model, GPU)."""
    all_rows: Score | None
    """With the screened aggregated rows put back that can be predicted and that hardware can reach (see `rules`)."""
    unseen_groups: Score | None
    """Rows whose (model, GPU) the calibration never saw."""
    by_gpu: dict[str, Score]
    by_model: dict[str, Score]
    by_framework: dict[str, Score]
    by_group: dict[str, Score]
    disaggregated: Score | None
    rules: tuple[str, ...]
    bad_rows: tuple[BadRow, ...]
    results: tuple[RowResult, ...]


def evaluate(
    path: Path,
    accelerators: dict[str, Accelerator],
    calibration: SpeedCalibration | None = None,
    *,
    aliases: Mapping[str, str] | None = None,
) -> PredictionErrors:
    """Predict every row of a file with the shipped calibration (or another) and compare.

    `aliases`: names of accelerators by other names that the file may use, lower case. Raises InputError when the file
    has nothing to compare with.
    """
    calibration = calibration or load_calibration()
    rows, good, bad = _read(path, accelerators, aliases)
    apart = [row for row in good if row.mode != "agg"]
    together = [row for row in good if row.mode == "agg"] if apart else _aggregated(path, good, bad)
    refused = {row.id for row in bad}
    screened = [
        row for row in rows if row.id in refused and row.mode == "agg" and row.deployment.accelerator in accelerators
    ]
    found = guess(together, accelerators, calibration) if together else Guess(*(np.zeros(0),) * 4)
    back = [
        row
        for row in screened
        if 0 < row.tpot_s < np.inf
        and 0 < row.ttft_s < np.inf
        and not impossible(row, accelerators[row.deployment.accelerator])
    ]
    everything = together + back
    whole = score(everything, guess(everything, accelerators, calibration)) if screened and everything else None
    beside = score(apart, guess(apart, accelerators, calibration)) if apart else None
    return _evaluation(path, "shipped calibration", calibration, together, found, bad, whole, beside)


def evaluate_held_out(
    path: Path,
    accelerators: dict[str, Accelerator],
    leave_out: str = "group",
    progress: Callable[[Hashable], None] | None = None,
    *,
    aliases: Mapping[str, str] | None = None,
) -> PredictionErrors:
    """Predict every aggregated row by a fit that saw none of its (model, GPU) `group`, or of its `gpu`.

    The intervals are widened by the other groups' held-out errors alone. Raises InputError when the file has nothing
    to compare with, or nothing is left to fit to.
    """
    calibration = load_calibration()
    _, good, bad = _read(path, accelerators, aliases)
    rows = _aggregated(path, good, bad)
    token, first = problems(rows, accelerators)
    groups = [row.group if leave_out == "group" else row.deployment.accelerator for row in rows]
    if len(set(groups)) < 2:
        raise InputError(
            f"{path}: all {len(rows)} rows are of one {leave_out} ({groups[0]}): nothing is left to fit to. Give a "
            "file with more, or leave out --leave-out.",
            param="leave-out",
        )
    held = held_out(token, first, groups, progress)
    pairs = [row.group for row in rows]
    tpot_ratio = np.abs(np.log(held.tpot_s / token.seconds)) / held.tpot_spread
    ttft_ratio = np.abs(np.log(held.ttft_s / first.seconds)) / held.ttft_spread
    found = Guess(
        tpot_s=held.tpot_s,
        tpot_factor=np.exp(held.tpot_spread * jackknife_quantile(tpot_ratio, groups, pairs)),
        ttft_s=held.ttft_s,
        ttft_factor=np.exp(held.ttft_spread * jackknife_quantile(ttft_ratio, groups, pairs)),
    )
    how = f"refitted without each {'(model, GPU)' if leave_out == 'group' else 'GPU'}"
    return _evaluation(path, how, calibration, rows, found, bad, None, None)


def jackknife_quantile(ratio: Array, left_out: Sequence[Hashable], groups: Sequence[Hashable]) -> Array:
    """Return for each row the 80 % quantile of |log error| / spread over the groups of rows not left out with it."""
    quantiles = np.zeros(len(ratio))
    for name in set(left_out):
        inside = np.array([one == name for one in left_out])
        others = np.flatnonzero(~inside if not inside.all() else inside).tolist()
        quantiles[inside] = group_quantile(ratio[others], [groups[i] for i in others])
    return quantiles


def _read(
    path: Path, accelerators: dict[str, Accelerator], aliases: Mapping[str, str] | None
) -> tuple[tuple[MeasuredRow, ...], tuple[MeasuredRow, ...], tuple[BadRow, ...]]:
    read, unreadable = read_measured(path)
    rows = tuple(_by_name(row, aliases or {}) for row in read)
    good, bad = screen(rows, accelerators)
    return rows, good, unreadable + bad


def _by_name(row: MeasuredRow, aliases: Mapping[str, str]) -> MeasuredRow:
    """Return the row with the catalogue's name of its accelerator."""
    given = row.deployment.accelerator
    deployment = msgspec.structs.replace(row.deployment, accelerator=aliases.get(given.lower(), given))
    return msgspec.structs.replace(row, deployment=deployment)


def _aggregated(path: Path, good: Sequence[MeasuredRow], bad: Sequence[BadRow]) -> list[MeasuredRow]:
    """Return the aggregated rows. Raises InputError when there are none, with the first reason."""
    rows = [row for row in good if row.mode == "agg"]
    if not rows:
        first = f"; the first: {bad[0].id}, {bad[0].reason}" if bad else ""
        raise InputError(
            f"{path}: no aggregated row to evaluate ({len(good)} disaggregated, {len(bad)} left out{first}). "
            "Give a file with rows whose mode is agg.",
            param="file",
        )
    return rows


def guess(rows: Sequence[MeasuredRow], accelerators: dict[str, Accelerator], calibration: SpeedCalibration) -> Guess:
    """Predict rows by the model that a plan uses."""
    token, prompts = problems(rows, accelerators)
    tpot, tpot_spread = predict(calibration.tpot, token)
    ttft, ttft_spread = predict(calibration.ttft, prompts.problem(token, calibration.tpot))
    for i, row in enumerate(rows):
        accelerator = accelerators[row.deployment.accelerator]
        batch, waiting = float(prompts.batch[i]), float(prompts.asked[i] - prompts.batch[i])
        found = operator_steady(calibration, row.deployment, accelerator, row.isl, row.osl, batch, waiting)
        if found is not None:
            ttft[i], tpot[i] = found
    return Guess(
        tpot_s=tpot,
        tpot_factor=np.exp(calibration.notes.tpot_quantile * tpot_spread),
        ttft_s=ttft,
        ttft_factor=np.exp(calibration.notes.ttft_quantile * ttft_spread),
    )


def score(rows: Sequence[MeasuredRow], guess: Guess, only: NDArray[np.bool_] | None = None) -> Score:
    """Return the errors and the coverage of predictions, of all rows or of some."""
    chosen = np.ones(len(rows), dtype=bool) if only is None else only
    tpot = np.array([row.tpot_s for row in rows])[chosen]
    ttft = np.array([row.ttft_s for row in rows])[chosen]
    tpot_error = np.abs(guess.tpot_s[chosen] / tpot - 1.0)
    ttft_error = np.abs(guess.ttft_s[chosen] / ttft - 1.0)
    return Score(
        rows=int(chosen.sum()),
        tpot_mape=_percent(tpot_error.mean()),
        tpot_median=_percent(np.median(tpot_error)),
        ttft_median=_percent(np.median(ttft_error)),
        coverage_80_tpot=_percent(_inside(tpot, guess.tpot_s[chosen], guess.tpot_factor[chosen]).mean()),
        coverage_80_ttft=_percent(_inside(ttft, guess.ttft_s[chosen], guess.ttft_factor[chosen]).mean()),
    )


def _inside(measured: Array, predicted: Array, factor: Array) -> NDArray[np.bool_]:
    return (measured >= predicted / factor) & (measured <= predicted * factor)


def _percent(value: float | np.floating) -> float:
    return round(100.0 * float(value), 2)


def _evaluation(
    path: Path,
    how: str,
    calibration: SpeedCalibration,
    rows: Sequence[MeasuredRow],
    guess: Guess,
    bad: tuple[BadRow, ...],
    whole: Score | None,
    beside: Score | None,
) -> PredictionErrors:
    total = score(rows, guess) if rows else None
    notes = calibration.notes
    known = set(zip(notes.points.ttft_ms, notes.points.tpot_ms, strict=True))
    groups = set(zip(notes.points.model, notes.points.accelerator, strict=True))
    new = np.array([row.group not in groups for row in rows])
    held = how.startswith("refitted")
    return PredictionErrors(
        file=path.name,
        how=how,
        calibration=f"{notes.fitted}, {notes.rows} rows of {notes.source}",
        rows=len(rows),
        rows_in_calibration=0 if held else sum(_times(row) in known for row in rows),
        tpot_mape=None if total is None else total.tpot_mape,
        tpot_median=None if total is None else total.tpot_median,
        ttft_median_error=None if total is None else total.ttft_median,
        interval_coverage_80=None if total is None else total.coverage_80_tpot,
        interval_coverage_80_ttft=None if total is None else total.coverage_80_ttft,
        throughput_rank_correlation=rank(rows, guess),
        throughput_rank_correlation_best=_rank_best(rows, guess),
        all_rows=whole,
        unseen_groups=score(rows, guess, new) if new.any() and not held else None,
        by_gpu=_split(rows, guess, lambda row: row.deployment.accelerator),
        by_model=_split(rows, guess, lambda row: row.model),
        by_framework=_split(rows, guess, lambda row: row.deployment.engine.value),
        by_group=_split(rows, guess, lambda row: " on ".join(row.group)),
        disaggregated=beside,
        rules=RULES,
        bad_rows=bad,
        results=tuple(_result(row, guess, i, seen=not held and not bool(new[i])) for i, row in enumerate(rows)),
    )


def _times(row: MeasuredRow) -> tuple[float, float]:
    """Milliseconds as the calibration keeps them: the same run is in several files under several names."""
    return round(1e3 * row.ttft_s, 2), round(1e3 * row.tpot_s, 3)


def _result(row: MeasuredRow, guess: Guess, i: int, *, seen: bool) -> RowResult:
    tpot, ttft = 1e3 * float(guess.tpot_s[i]), 1e3 * float(guess.ttft_s[i])
    wide, far = float(guess.tpot_factor[i]), float(guess.ttft_factor[i])
    return RowResult(
        id=row.id,
        seen=seen,
        tpot_ms=round(1e3 * row.tpot_s, 4),
        predicted_tpot_ms=(round(tpot, 4), round(tpot / wide, 4), round(tpot * wide, 4)),
        ttft_ms=round(1e3 * row.ttft_s, 3),
        predicted_ttft_ms=(round(ttft, 3), round(ttft / far, 3), round(ttft * far, 3)),
    )


def _split(rows: Sequence[MeasuredRow], guess: Guess, name: Callable[[MeasuredRow], str]) -> dict[str, Score]:
    names = np.array([name(row) for row in rows])
    return {value: score(rows, guess, names == value) for value in sorted(set(names.tolist()))}


def _throughput(row: MeasuredRow, ttft_s: float, tpot_s: float) -> float:
    """Output tokens/s per GPU of a closed loop of `concurrency` clients."""
    return row.concurrency * row.osl / (ttft_s + tpot_s * (row.osl - 1)) / row.deployment.accelerators


def rank(rows: Sequence[MeasuredRow], guess: Guess) -> float | None:
    """Return Spearman's rank correlation of output tokens/s per accelerator; None when all are alike."""
    measured = [_throughput(row, row.ttft_s, row.tpot_s) for row in rows]
    predicted = [_throughput(row, guess.ttft_s[i], guess.tpot_s[i]) for i, row in enumerate(rows)]
    if len(rows) == 1:
        return 1.0
    if len(set(measured)) < 2 or len(set(predicted)) < 2:
        return None
    return round(float(spearmanr(measured, predicted).statistic), 4)


def _rank_best(rows: Sequence[MeasuredRow], guess: Guess) -> float | None:
    best: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for i, row in enumerate(rows):
        pair = best[row.group]
        pair[0] = max(pair[0], _throughput(row, row.ttft_s, row.tpot_s))
        pair[1] = max(pair[1], _throughput(row, guess.ttft_s[i], guess.tpot_s[i]))
    if len(best) < 3:
        return None
    measured, predicted = zip(*best.values(), strict=True)
    return round(float(spearmanr(measured, predicted).statistic), 4)
