"""The demo's results: a run's rows replace its earlier ones, and only clean runs on fresh seeds are quoted."""

import sys

from lab import demo, readme_table

SYSTEMS = {
    "simulated expert (incumbent)": 90,
    "best rung alone (pairs)": 91,
    "new route (rungs, then the expert)": 94,
    "small model as it is": 57,
    "small model, tuned": 88,
}
TAKEN = {"wall_s": 300.0, "cpu_s": 500.0, "ladder_s": 40.0, "ladder_only": False}


def report(shift=0.0):
    return {
        "verdicts": [],
        "systems": [
            {
                "name": name,
                "label": "",
                "n": 400,
                "score": {"value": (f1 + shift) / 100, "low": 0.5, "high": 1.0},
                "cost_per_1k_usd": 0.02,
                "small_share": 0.8 if name.startswith("new") else None,
            }
            for name, f1 in SYSTEMS.items()
        ],
    }


def test_rows_of_a_seed_are_replaced_and_only_clean_fresh_runs_are_quoted(tmp_path):
    path = tmp_path / "demo.json"
    for seed, shift, note in ((0, -9.0, ""), (0, 0.0, ""), (1, 2.0, ""), (10, -20.0, "chosen on")):
        rows = demo.rows(report(shift), seed, TAKEN, note)
        demo.merge(path, [row | {"commit": "0123456789ab"} for row in rows])
    demo.merge(path, [row | {"commit": "0123456789ab-dirty"} for row in demo.rows(report(-30.0), 2, TAKEN, "")])
    quoted = readme_table.demo_rows(path)
    assert {row["seed"] for row in quoted} == {0, 1}
    assert "| small model, tuned | 89.0 (88.0 to 90.0) | 0.02 |  | 2 |" in readme_table.demo_table(quoted)
    line = readme_table.demo_line(quoted)
    assert "the ladder stood 40 seconds after the start" in line
    assert "went from 58 to 89 in 2 runs and got no part of the route" in line


def test_what_a_run_took_is_told_apart_until_its_ladder_stood(capsys):
    said = "import time; print('[  12.5 s] ladder: done in 9.0 s'); sum(range(20_000_000)); raise SystemExit(3)"
    status, taken = demo.watched([sys.executable, "-c", said])
    assert status == 3
    assert taken["ladder_s"] == 12.5
    assert taken["cpu_s"] > 0
    assert "ladder: done" in capsys.readouterr().out


def test_without_a_run_nothing_is_quoted(tmp_path):
    assert readme_table.demo_rows(tmp_path / "none.json") == []
    assert readme_table.demo_line([]) == ""
    assert "No run" in readme_table.demo_table([])
