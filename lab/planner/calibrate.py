"""Fit the planner's calibration to a file of measurements and write the two files that are shipped.

    python -m lab.planner.calibrate ../shared/data/planner/measured_ttft_tpot.csv

Rows are aiconfigurator's `systems/silicon_sample.csv` (Apache-2.0) or a part of it. Some minutes: the widths of the
intervals come from refitting without each (model, GPU).
"""

import datetime
import io
import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from bessemer_planner.catalog import load_catalog
from bessemer_planner.performance import calibration as shipped
from bessemer_planner.performance.calibrate import fit, group_quantile, held_out, problems, row_run
from bessemer_planner.performance.calibration import Notes, SpeedCalibration
from bessemer_planner.performance.measured import MeasuredRow, read_measured
from bessemer_planner.performance.nearest import Points
from bessemer_planner.performance.recipes import TPOT, TTFT
from bessemer_planner.performance.screen import screen
from bessemer_planner.types import Accelerator

SOURCE = "ai-dynamo/aiconfigurator, aic-core systems/silicon_sample.csv (Apache-2.0)"


def points(rows: list[MeasuredRow]) -> Points:
    """Return every distinct measurement once."""
    seen = {(row.ttft_s, row.tpot_s): row for row in reversed(rows)}
    kept = sorted(seen.values(), key=lambda row: row.id)
    at = [row.deployment for row in kept]
    return Points(
        id=[row.id for row in kept],
        model=[row.model for row in kept],
        accelerator=[d.accelerator for d in at],
        engine=[d.engine.value for d in at],
        version=[row.version for row in kept],
        date=[row.date for row in kept],
        kind=[row_run(row).kind for row in kept],
        speculative=[row.speculative for row in kept],
        precision=[d.precision.value for d in at],
        sizes=[(d.tp, d.dp, d.ep) for d in at],
        load=[(row.isl, row.osl, row.concurrency) for row in kept],
        ttft_ms=[round(1e3 * row.ttft_s, 2) for row in kept],
        tpot_ms=[round(1e3 * row.tpot_s, 3) for row in kept],
    )


def calibrated(rows: list[MeasuredRow], accelerators: dict[str, Accelerator]) -> SpeedCalibration:
    """Fit both recipes; the intervals are those that held 80 % of groups which a fit never saw."""
    token, prompts = problems(rows, accelerators)
    tpot = fit(TPOT, token)
    ttft = fit(TTFT, prompts.problem(token, tpot))
    groups = [row.group for row in rows]
    held = held_out(token, prompts, groups)
    tpot_ratio = np.abs(np.log(held.tpot_s / token.seconds)) / held.tpot_spread
    ttft_ratio = np.abs(np.log(held.ttft_s / prompts.seconds)) / held.ttft_spread
    notes = Notes(
        fitted=datetime.datetime.now(datetime.UTC).date().isoformat(),
        source=SOURCE,
        rows=len(rows),
        tpot_quantile=round(group_quantile(tpot_ratio, groups), 4),
        ttft_quantile=round(group_quantile(ttft_ratio, groups), 4),
        tpot_recipe=TPOT,
        ttft_recipe=TTFT,
        tpot_keys=tpot.keys,
        ttft_keys=ttft.keys,
        points=points(rows),
    )
    return SpeedCalibration(notes, tpot, ttft)


def dump_calibration(calibration: SpeedCalibration) -> tuple[bytes, bytes]:
    """Return the two files of a calibration: notes as JSON, and arrays as a compressed npz (correlations in int8)."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, structure in (("tpot", calibration.tpot), ("ttft", calibration.ttft)):
        spread = np.sqrt(np.diag(structure.covariance))
        correlation = structure.covariance / spread[:, None] / spread[None, :]
        arrays[name] = structure.theta.astype(np.float32)
        arrays[f"{name}_spread"] = spread.astype(np.float32)
        lower = correlation[np.tril_indices(len(spread), -1)]
        arrays[f"{name}_correlation"] = np.round(lower * 2048.0).astype(np.int16)
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return msgspec.json.encode(calibration.notes), stream.getvalue()


def main() -> None:
    """Fit, measure the intervals, write."""
    accelerators = dict(load_catalog().accelerators)
    rows = [row for row in screen(read_measured(Path(sys.argv[1]))[0], accelerators)[0] if row.mode == "agg"]
    folder = Path(shipped.__file__).parent
    as_json, arrays = dump_calibration(calibrated(rows, accelerators))
    folder.joinpath("calibration.json").write_bytes(as_json)
    folder.joinpath("calibration.npz").write_bytes(arrays)


if __name__ == "__main__":
    main()
