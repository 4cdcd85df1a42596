"""`bessemer-planner plan FILE` and `bessemer-planner check`: one JSON document on standard output.

Exit code 0 with the plan or the claims; 2 with `{"error": {message, type, param, code}}`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bessemer_planner.catalog import load_catalog, read_price_file
from bessemer_planner.claims import check_claims
from bessemer_planner.errors import InputError, PlannerError
from bessemer_planner.performance import Performance
from bessemer_planner.plan import make_plan, plan_json
from bessemer_planner.report import write_plan
from bessemer_planner.workload import Workload, convert_workload, read_workload


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        content, code = _checked(asked) if asked.verb == "check" else _planned(asked), 0
    except PlannerError as error:
        content, code = msgspec.json.encode(error.body()), 2
    sys.stdout.buffer.write(content + b"\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bessemer-planner", description="What hardware, how much, whose, and when.")
    prices = argparse.ArgumentParser(add_help=False)
    prices.add_argument("--prices", type=Path, metavar="FILE", help="CSV of prices that follow the shipped ones.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    plan = verbs.add_parser("plan", parents=[prices], help="Plan a workload; prints the plan as JSON.")
    plan.add_argument("file", help="Workload (TOML); `-`: JSON on standard input.")
    plan.add_argument("--out", type=Path, metavar="FOLDER", help="Also write report.html and plan.json there.")
    verbs.add_parser("check", parents=[prices], help="Check published claims about AI hardware; prints JSON.")
    return parser


def _planned(asked: argparse.Namespace) -> bytes:
    prices = () if asked.prices is None else read_price_file(asked.prices)
    workload = _of_json(sys.stdin.buffer.read()) if asked.file == "-" else read_workload(Path(asked.file))
    plan = make_plan(workload, load_catalog(prices))
    if asked.out is not None:
        write_plan(plan, asked.out)
    return plan_json(plan)


def _of_json(body: bytes) -> Workload:
    try:
        values = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise InputError(f"The workload is not a JSON object: {error}.", param="workload") from None
    return convert_workload(values)


def _checked(asked: argparse.Namespace) -> bytes:
    prices = () if asked.prices is None else read_price_file(asked.prices)
    return msgspec.json.encode(check_claims(load_catalog(prices), Performance.load()), enc_hook=float)


if __name__ == "__main__":
    sys.exit(main())
