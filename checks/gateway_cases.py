"""Try the cases of public bug reports on a server: `python checks/gateway_cases.py --cases FOLDER`.

FOLDER holds `mock_upstream.py`, the scripted upstream, and `weird.jsonl`, recorded answers. Prints for each row
`nr | expected | got | ok`; exit code 1 if one is not as expected. `--rows 3,17` tries some; `--models` is the folder of
the built-in model, which is brought there once.
"""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from gateway_rows import answers, clients, grading, hostile, inputs, slow, storage, training
from gateway_rows.server import Server, Upstream, configuration
from gateway_rows.table import ROWS, Bench, Seen

from bessemer.registry.weights import SMOLLM2, ensure

MODULES = (answers, clients, grading, hostile, inputs, slow, storage, training)


def main() -> int:
    """Run the rows; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("data/models"))
    parser.add_argument("--rows", default="", help="numbers, with commas; default: all")
    parser.add_argument(
        "--database-url", help="PostgreSQL for row 37; default: BESSEMER_CASES_POSTGRES, else one of its own"
    )
    options = parser.parse_args()
    ensure(SMOLLM2, options.models, logging.getLogger("cases").info)
    wanted = [int(number) for number in options.rows.split(",") if number] or sorted(ROWS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, too
    failed = 0
    with tempfile.TemporaryDirectory(prefix="bessemer-cases-") as name:
        folder, cases = Path(name), options.cases.resolve()
        upstream = Upstream(cases)
        server = Server(folder / "data", configuration(upstream, cases), options.models, **clients.ORIGINS)
        try:
            if not server.ready():
                sys.stdout.write(f"the server did not start:\n{server.logged()[-3000:]}\n")
                return 1
            url = options.database_url or os.environ.get("BESSEMER_CASES_POSTGRES")
            bench = Bench(server, upstream, cases, folder, url)
            for number in wanted:
                failed += not run(number, bench)
        finally:
            server.close()
            upstream.close()
    sys.stdout.write(f"\n{len(wanted) - failed} of {len(wanted)} rows as expected\n")
    return 1 if failed else 0


def run(number: int, bench: Bench) -> bool:
    """Try one row and print its line; return whether all of it was as expected."""
    expected, function = ROWS[number]
    seen, begun = Seen(), time.monotonic()
    try:
        function(bench, seen)
    except Exception as error:  # a row that breaks off is a row that failed, the others go on
        seen.check("broken off", False, f"{type(error).__name__}: {error}")
    right = not seen.wrong and seen.right > 0
    took = time.monotonic() - begun
    sys.stdout.write(f"{number} | {expected} | {seen.got} ({took:.0f} s) | {'ok' if right else 'FAIL'}\n")
    sys.stdout.flush()
    return right


if __name__ == "__main__":
    sys.exit(main())
