"""`python -m bessemer.planner [PRICES.csv]`: a workload as JSON on standard input, a plan on standard output.

Exit code 0 with the plan; 2 with `{"error": {message, type, param, code}}`. For callers that must not be slowed down.
"""

import sys
from pathlib import Path

import msgspec

from bessemer.core.errors import BessemerError, ConfigError
from bessemer.planner.catalog import load_catalog
from bessemer.planner.catalog.tables import read_prices
from bessemer.planner.plan import make_plan, plan_json
from bessemer.planner.workload import convert_workload


def main() -> int:
    """Plan what standard input says."""
    try:
        prices = Path(sys.argv[1]) if len(sys.argv) > 1 else None
        more = read_prices(prices.read_text(), str(prices)) if prices is not None and prices.is_file() else ()
        workload = convert_workload(_decoded(sys.stdin.buffer.read()))
        content, code = plan_json(make_plan(workload, load_catalog(more))), 0
    except BessemerError as error:
        content, code = msgspec.json.encode(error.body()), 2
    sys.stdout.buffer.write(content + b"\n")
    return code


def _decoded(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ConfigError(f"The workload is not a JSON object: {error}.", param="workload") from None


if __name__ == "__main__":
    sys.exit(main())
