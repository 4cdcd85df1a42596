"""A plan as two files for people and programs: report.html and plan.json."""

from pathlib import Path

from bessemer_planner.errors import InputError
from bessemer_planner.plan import Plan, plan_json
from bessemer_planner.report.page import render


def write_plan(plan: Plan, folder: Path) -> None:
    """Write `plan.json` and `report.html` into a folder, which is made when it is not there. Raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.joinpath("plan.json").write_bytes(plan_json(plan) + b"\n")
        folder.joinpath("report.html").write_text(render(plan))
    except OSError as error:
        raise InputError(f"Cannot write to {str(folder)!r}: {error.strerror}.", param="out") from None
