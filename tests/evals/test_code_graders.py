"""Python and Bedrock graders in killable processes: results, limits, isolation, cleaning up."""

import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bessemer.core.errors import GraderError
from bessemer.evals.grader import Grader, GradeResult, GraderServices, Limits
from bessemer.evals.graders import build, check, grade_batch
from bessemer.evals.sandbox import isolation

SOURCE = textwrap.dedent(
    """
    import math, os, socket, subprocess, sys, time
    calls = 0

    def grade(sample, item):
        global calls
        calls += 1
        mode = item.get("mode", "label")
        if mode == "label":
            return 1.0 if sample["output_text"] == item["label"] else 0.0
        if mode == "json":
            return sample["output_json"]["x"]
        if mode == "calls":
            return calls
        if mode == "loop":
            while True:
                pass
        if mode == "sleep":
            time.sleep(60)
        if mode == "memory":
            return len(bytearray(8 << 30))
        if mode == "raise":
            raise ValueError("broken on purpose")
        if mode == "exit":
            os._exit(3)
        if mode == "system exit":
            raise SystemExit
        if mode == "kill":
            os.kill(os.getppid(), 9)
            time.sleep(60)
        if mode == "nan":
            return math.nan
        if mode == "text":
            return "great"
        if mode == "network":
            socket.create_connection(("127.0.0.1", item["port"]), timeout=1)
            return 1.0
        if mode == "read":
            return float(len(open(item["path"]).read()))
        if mode == "scratch":
            with open("notes", "w") as file:
                return float(file.write("abc"))
        if mode == "numpy":
            import numpy
            return numpy.float32(0.5)
        if mode == "children":
            sleep = "import time; time.sleep(99)"
            subprocess.Popen([sys.executable, "-c", sleep, item["seconds"]], start_new_session=True)
            return 0.5
        if mode == "write":
            print("noise on the pipe" * 100)
            return 0.25
    """
)
LIMITS = Limits(wall_s=1.5, cpu_s=1, memory_mb=512, workers=2)
ANYWHERE = GraderServices(unfenced=True)
"""For code of our own, on any kernel."""


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with build(
        {"type": "python", "name": "code", "source": SOURCE}, GraderServices(limits=LIMITS, unfenced=True)
    ) as built:
        yield built


def run(grader: Grader, sample: str, **item: Any) -> GradeResult:
    return grade_batch(grader, [(sample, item)])[0]


def test_rewards(grader: Grader) -> None:
    assert run(grader, "a", label="a").reward == 1.0
    assert run(grader, "a", label="b").reward == 0.0
    assert run(grader, '{"x": 0.75}', mode="json").reward == 0.75
    assert run(grader, "", mode="write").reward == 0.25


def test_no_state_leaks_between_grades(grader: Grader) -> None:
    results = grade_batch(grader, [("", {"mode": "calls"})] * 5)
    assert [result.reward for result in results] == [1.0] * 5


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("raise", "broken on purpose"),
        ("exit", "NoAnswer"),
        ("system exit", "SystemExit"),
        ("memory", "MemoryError"),
        ("json", "KeyError"),
        ("loop", "Limit"),
        ("sleep", "WallLimit"),
    ],
)
def test_failures_are_named_and_take_only_themselves_down(grader: Grader, mode: str, says: str) -> None:
    start = time.monotonic()
    result = run(grader, "no json", mode=mode)
    assert time.monotonic() - start < 8
    assert result.reward is None
    assert result.errors.python_grader_runtime_error
    assert says in (result.errors.python_grader_runtime_error_details or "")
    assert run(grader, "a", label="a").reward == 1.0


def test_processor_time_is_limited_by_itself() -> None:
    patient = Limits(wall_s=60, cpu_s=2)
    with build(
        {"type": "python", "name": "code", "source": SOURCE}, GraderServices(limits=patient, unfenced=True)
    ) as built:
        result = run(built, "", mode="loop")
        assert run(built, "", mode="numpy").reward == 0.5
    assert "CpuLimit" in (result.errors.python_grader_runtime_error_details or "")


def test_a_reward_that_is_no_finite_number_is_unresponsive(grader: Grader) -> None:
    for mode in ("nan", "text"):
        result = run(grader, "", mode=mode)
        assert result.reward is None
        assert result.errors.unresponsive_reward_error


def test_an_attack_on_the_server_process_loses_one_grade(grader: Grader) -> None:
    result = run(grader, "", mode="kill")
    assert result.reward is None
    assert result.errors.any
    assert run(grader, "a", label="a").reward == 1.0


def test_no_network(grader: Grader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = run(grader, "", mode="network", port=server.getsockname()[1])
    assert result.reward is None
    assert result.errors.python_grader_runtime_error


def test_files_are_fenced_where_the_kernel_can(grader: Grader, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key")
    result = run(grader, "", mode="read", path=str(secret))
    assert result.reward == (3.0 if isolation().files == "open" else None)
    assert run(grader, "", mode="scratch").reward == 3.0


def test_files_beside_the_interpreter_are_fenced_too(tmp_path: Path) -> None:
    if isolation().files == "open":
        pytest.skip("this kernel has no Landlock")
    home = tmp_path / "app"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (home / "admin.key").write_text("key")
    code = """
import sys
from bessemer.evals.graders import build, grade_batch
source = "def grade(sample, item): return float(len(open(item['path']).read()))"
with build({"type": "python", "source": source}) as grader:
    for path in sys.argv[1:]:
        print(grade_batch(grader, [("", {"path": path})])[0].reward)
"""
    done = subprocess.run(
        [home / "bin" / "python", "-c", code, home / "admin.key", home / "pyvenv.cfg"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    secret, configuration = done.stdout.split()
    assert secret == "None"
    assert float(configuration) > 0


@pytest.mark.parametrize("sample", ["\ud800", "[" * 100_000, "\x00"])
def test_strange_samples_never_raise(grader: Grader, sample: str) -> None:
    result = run(grader, sample, label="a")
    assert (result.reward is None) == result.errors.any
    assert run(grader, "a", label="a").reward == 1.0


def _running(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and marker.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


def test_children_die_with_the_grade(grader: Grader) -> None:
    marker = f"9876.{os.getpid()}"
    assert run(grader, "", mode="children", seconds=marker).reward == 0.5
    assert _running(marker) == []


def _started() -> set[str]:
    """Sandboxes of this very process; the machine may run others."""
    mine = {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}
    return mine & set(_running("evals/fence"))


def test_close_leaves_no_process() -> None:
    marker = f"the_marker_{os.getpid()}"
    source = f"def grade(sample, item): return 1.0  # {marker}"
    before = _started()
    built = build({"type": "python", "name": "code", "source": source}, ANYWHERE)
    assert run(built, "").reward == 1.0
    assert _started() > before
    built.close()
    built.close()
    assert _started() <= before
    assert run(built, "").errors.python_grader_server_error


def test_broken_sources() -> None:
    for source in ("def grade(:", "def other(sample, item): return 1.0"):
        with pytest.raises(GraderError, match="source"):
            check({"type": "python", "name": "code", "source": source}, ANYWHERE)
    source = "raise OSError('at import')\ndef grade(s, i): return 1"
    with build({"type": "python", "name": "code", "source": source}, ANYWHERE) as built:
        result = run(built, "")
    assert result.reward is None
    assert "at import" in (result.errors.python_grader_runtime_error_details or "")


REWARD_FUNCTION = textwrap.dedent(
    """
    import json

    def lambda_handler(event, context):
        scores = []
        for sample in event:
            answer = sample["messages"][-1]["content"]
            reference = sample["metadata"]["reference_answer"]
            score = float(answer == reference)
            if answer == "skip":
                continue
            scores.append({
                "id": sample["id"],
                "aggregate_reward_score": score,
                "metrics_list": [{"name": "exact", "value": score, "type": "Reward"}],
            })
        return scores[::-1]
    """
)


def test_bedrock_reward_function_unchanged() -> None:
    rows = [
        ("4", {"id": "row", "messages": [{"role": "user", "content": "2+2?"}], "reference_answer": "4"}),
        ("5", {"id": "row", "messages": [{"role": "user", "content": "2+2?"}], "metadata": {"reference_answer": "4"}}),
        ("skip", {"reference_answer": "4"}),
    ] * 15
    grader = {"type": "lambda", "name": "reward", "source": REWARD_FUNCTION}
    check(grader, ANYWHERE)
    with build(grader, ANYWHERE) as built:
        results = grade_batch(built, rows)
    assert [result.reward for result in results] == [1.0, 0.0, None] * 15
    assert results[0].scores == {"exact": 1.0}
    assert results[2].errors.unresponsive_reward_error


@pytest.mark.parametrize("told", ["float(sample['output_text'])", "raise ValueError(sample['output_text'] * 400)"])
async def test_why_a_run_has_no_rewards_is_told_without_content(told: str) -> None:
    source = f"def grade(sample, item):\n    {told}"
    with build({"type": "python", "name": "strict", "source": source}, GraderServices()) as grader:
        result = await grader.grade("CUSTOMER 4711 ", {})
    assert "CUSTOMER 4711" in (result.errors.python_grader_runtime_error_details or "")
    assert result.failure is not None
    assert "CUSTOMER" not in result.failure.message
    assert "ValueError" in result.failure.message
