"""Prints how long totals of usage take over a database of many requests: python checks/usage_time.py FOLDER [ROWS].

The requests are synthetic: 30 days, 4 routes, 12 versions, 20 keys, a tag of 10 values.
"""

import random
import sys
import time
from pathlib import Path

import msgspec

from bessemer.core.inferences import Inference, ModelCall
from bessemer.store import inferences, usage
from bessemer.store.database import Database

_DAYS = 30
_BATCH = 1000


def request(number: int, draw: random.Random) -> Inference:
    """Make one request with its call."""
    at, route, version = draw.random() * _DAYS * 86_400, draw.randrange(4), f"model{draw.randrange(12)}@1"
    call = ModelCall(
        id=f"call-{number}", inference_id=f"inf-{number}", step=0, version=version, provider="openai", output="yes",
        finish_reason="stop", input_tokens=900, output_tokens=60, cost_usd=0.001, latency_s=0.5, created_at=at,
    )  # fmt: skip
    return Inference(
        id=call.inference_id, route=f"route{route}", created_at=at, key_id=f"key-{draw.randrange(20)}", messages=(),
        input=None, input_sha256="", output="yes", finish_reason="stop", version=version, input_tokens=900,
        output_tokens=60, cost_usd=0.001, latency_s=0.5, propensity=1.0, config_sha256="", calls=(call,),
        tags={"team": str(draw.randrange(10))},
    )  # fmt: skip


def main(folder: Path, rows: int) -> None:
    """Fill and ask."""
    database, draw = Database.open_url(f"sqlite:///{folder / 'usage.db'}"), random.Random(0)  # noqa: S311 - rows, not keys
    made = sorted((request(number, draw) for number in range(rows)), key=lambda row: row.created_at)
    for start in range(0, rows, _BATCH):
        some = made[start : start + _BATCH]
        database.write(lambda connection, some=some: inferences.insert_rows(connection, some))  # type: ignore[misc]
    asked = {
        "all": {},
        "by key": {"by": ("key",)},
        "by tag": {"by": (), "tag": "team"},
        "all but 90 s at each end": {"since": 90.0, "until": _DAYS * 86_400 - 90.0},
        "one route, last 24 h": {"route": "route1", "since": (_DAYS - 1) * 86_400 + 90.0},
    }
    for name, query in asked.items():
        times = []
        for _ in range(5):
            began = time.perf_counter()
            found = usage.find(database, **msgspec.convert(query, dict))
            times.append(time.perf_counter() - began)
        total = sum(row.requests for row in found)
        sys.stdout.write(f"{name}: {sorted(times)[2] * 1000:.1f} ms, {len(found)} rows, {total} requests\n")
    database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
