"""The demo's results: a run's rows replace its earlier ones, and only clean runs on fresh seeds are quoted."""

from lab import demo, readme_table

SYSTEMS = {
    "simulated expert (incumbent)": 90,
    "base small model": 57,
    "tuned small model": 88,
    "new route (cascade)": 92,
}


def report(shift=0.0):
    return {
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
        ]
    }


def test_rows_of_a_seed_are_replaced_and_only_clean_fresh_runs_are_quoted(tmp_path):
    path = tmp_path / "demo.json"
    for seed, shift, note in ((0, -9.0, ""), (0, 0.0, ""), (1, 2.0, ""), (10, -20.0, "chosen on")):
        rows = demo.rows(report(shift), seed, 300.0, note)
        demo.merge(path, [row | {"commit": "0123456789ab"} for row in rows])
    demo.merge(path, [row | {"commit": "0123456789ab-dirty"} for row in demo.rows(report(-30.0), 2, 300.0, "")])
    quoted = readme_table.demo_rows(path)
    assert {row["seed"] for row in quoted} == {0, 1}
    assert "| tuned small model | 89.0 (88.0 to 90.0) | 0.02 |  |" in readme_table.demo_table(quoted)
    assert "went from F1 58 to 89" in readme_table.demo_line(quoted)


def test_without_a_run_nothing_is_quoted(tmp_path):
    assert readme_table.demo_rows(tmp_path / "none.json") == []
    assert readme_table.demo_line([]) == ""
    assert "No run" in readme_table.demo_table([])
