"""Traffic from traces: four formats, and only what the recording is long enough for."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from bessemer_planner.errors import InputError
from bessemer_planner.workload import Lengths, Traffic, measure, read_trace, read_workload, recorded

BASE = Traffic(requests_per_month=1e6, prompt_tokens=Lengths(mean=10), output_tokens=Lengths(mean=10))
SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "traces"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.0000000,8,2\n"
                  "2023-11-16 18:00:02.5,4,6\n"),
        ("b.csv", "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,8,2,10,x\n"
                  "7.5,M,4,6,10,x\n"),
        ("c.csv", "arrival_s,prompt_tokens,output_tokens\n0,8,2\n2.5,4,6\n"),
        ("d.jsonl", '{"timestamp": 0, "input_length": 8, "output_length": 2}\n'
                    '{"timestamp": 2500, "input_length": 4, "output_length": 6}\n'),
    ],
)  # fmt: skip
def test_four_formats_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = read_trace(path)
    assert np.diff(found.arrival_s) == pytest.approx([2.5])
    assert found.prompt_tokens.tolist() == [8, 4]
    assert found.output_tokens.tolist() == [2, 6]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [("a.csv", "x,y\n1,2\n", "unknown columns"),
     ("b.csv", "arrival_s,prompt_tokens,output_tokens\n0,many,2\n", "line 2"),
     ("c.jsonl", "{\n", "wrong line"), ("e.jsonl", "[1]\n", "wrong line"), ("f.jsonl", "[" * 100_000, "wrong line"),
     ("g.jsonl", '{"timestamp": 0, "input_length": 1e400, "output_length": 1}\n', "wrong line"),
     ("h.jsonl", '{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": 7}\n', "wrong line"),
     ("i.csv", "arrival_s,prompt_tokens,output_tokens\n" + "0" * 200_000 + ",1,1\n", "wrong line"),
     ("j.csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\nnan,1,1\ninf,1,1\n", "arrivals that are no numbers"),
     ("d.csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n", "fewer than two")],
)  # fmt: skip
def test_a_wrong_trace_is_refused_in_one_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        read_trace(path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    trace, workload = tmp_path / "a.csv", tmp_path / "a.toml"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,8,2\n2.5,4,6\n", "utf-8-sig")
    assert read_trace(trace).prompt_tokens.tolist() == [8, 4]
    text = '[traffic]\nrequests_per_month = 1\nprompt_tokens.mean = 1\noutput_tokens.mean = 1\n[[models]]\nname = "a"\n'
    workload.write_text('name = "ü"\n' + text, "utf-8-sig")
    assert read_workload(workload).name == "ü"


def test_dates_are_utc_unless_they_name_a_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    path = tmp_path / "a.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 06:00:00.1234567,8,2\n"
        "2024-05-10 09:00:00.000+02:00,8,2\n2024-05-10 08:00:00.009930+00:00,8,2\n"
    )
    hours = read_trace(path).arrival_s / 3600 % 24
    monkeypatch.undo()
    time.tzset()
    assert hours == pytest.approx([6, 7, 8], abs=1e-3)


def test_a_short_recording_measures_lengths_alone() -> None:
    found = measure(recorded([0, 10, 20], [100, 200, 300], [1, 2, 3]), BASE)
    assert found.traffic.prompt_tokens.mean == 200
    assert found.traffic.requests_per_month == BASE.requests_per_month
    assert found.traffic.hours == BASE.hours
    assert any("too short" in note for note in found.notes)


def test_two_weeks_measure_pace_hours_and_weekend() -> None:
    start, random = 1_700_000_000 // 86_400 * 86_400, np.random.default_rng(0)
    arrivals = []
    for day in range(14):
        weekday = ((start // 86_400 + day) + 3) % 7 < 5
        hours = random.integers(8, 18, 500 if weekday else 100)
        arrivals += (start + day * 86_400 + hours * 3600 + random.random(len(hours)) * 3600).tolist()
    found = measure(recorded(arrivals, [10] * len(arrivals), [5] * len(arrivals)), BASE).traffic
    assert found.requests_per_month == pytest.approx(len(arrivals) / 14 * 365.25 / 12, rel=0.05)
    assert sum(found.hours[8:18]) == pytest.approx(24, rel=0.01)
    assert found.weekend == pytest.approx(0.2, rel=0.02)


def test_blocks_seen_before_count_as_reusable(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [{"timestamp": t, "input_length": 1024, "output_length": 1, "hash_ids": [0, t]} for t in (0, 1, 2)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert measure(read_trace(path), BASE).traffic.prefix_share == pytest.approx(2 * 512 / (3 * 1024))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not there")
def test_public_traces_are_read() -> None:
    azure = measure(read_trace(SHARED / "azure_llm_code_2023.csv"), BASE).traffic
    assert azure.prompt_tokens.mean == pytest.approx(2048, rel=0.02)
    assert azure.output_tokens.mean == pytest.approx(28, rel=0.05)
    mooncake = measure(read_trace(SHARED / "mooncake_synthetic.jsonl"), BASE).traffic
    assert 0.1 < mooncake.prefix_share < 0.9
