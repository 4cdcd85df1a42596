"""What a hostile grader may not do, on a whole kernel, as a plain account, and on machines that have less."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.evals import escapes
from tests.evals.other_machine import other_machine

from bessemer.core.errors import GraderError
from bessemer.evals.grader import GraderServices, Limits
from bessemer.evals.graders import build, check, grade_batch
from bessemer.evals.sandbox import Sandbox, isolation

ROOT = os.geteuid() == 0
CLOSED = not all(parent.stat().st_mode & 1 for parent in Path(os.__file__).parents)
"""Whether only root can reach the interpreter: then no other account can run it, unless a private root holds it."""
MACHINES: dict[str, tuple[str, ...]] = {
    "whole": (),
    "nobody": ("as-nobody",),
    "no Landlock": ("without-landlock",),
    "no Landlock, nobody": ("without-landlock", "as-nobody"),
    "no namespaces": ("without-namespaces",),
    "no namespaces, as in a container": ("without-namespaces", "open-way"),
    "no namespaces, nobody": ("without-namespaces", "as-nobody"),
}
NAMES = [
    name
    for name, value in vars(escapes).items()
    if callable(value) and getattr(value, "__code__", None) and value.__code__.co_varnames[:1] == ("item",)
]
TRY_ALL = """
import json, os, sys
from pathlib import Path
from bessemer.evals.graders import build, grade_batch
from bessemer.evals.grader import Limits, GraderServices
from bessemer.evals.sandbox import isolation
import msgspec
source, names, calls, folder, runtime = json.load(sys.stdin)
tried = [{"escape": name} for name in names] + [{"escape": "a_call_passes", "call": call} for call in calls]
parents = [os.getpid(), os.getppid()]
facts = {"folder": folder, "secret": folder + "/secret", "pid": os.getpid(), "others": parents}
outcome = {}
limits = Limits(wall_s=8, cpu_s=6, memory_mb=512)
with build({"type": "python", "source": source}, GraderServices(limits=limits, runtime=runtime)) as grader:
    for item in tried:
        result = grade_batch(grader, [("", {**facts, **item})])[0]
        details = result.errors.python_grader_runtime_error_details
        outcome[" ".join(item.values())] = result.reward if result.reward is not None else details
print(json.dumps({"isolation": msgspec.to_builtins(isolation(runtime)), "outcome": outcome}))
"""


def python(options: tuple[str, ...], code: str, given: Any) -> Any:
    done = subprocess.run(
        [*other_machine(*options), sys.executable, "-c", code],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls are this machine's")
@pytest.mark.parametrize(
    "machine", [pytest.param(name, marks=() if name in ("whole", "nobody") else pytest.mark.long) for name in MACHINES]
)
def test_no_escape(machine: str, open_folder: Path) -> None:
    assert escaped(MACHINES[machine], open_folder, "native") == {
        "runtime": "native",
        "account": "own" if not ROOT or "nobody" in machine or (machine == "no namespaces" and CLOSED) else "other",
        "files": "landlock" if "no namespaces" in machine else "private root",
        "processes": "shared" if "no namespaces" in machine else "namespace",
        "system_calls": "filtered",
    }


@pytest.mark.long
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
@pytest.mark.parametrize("machine", ["whole", "nobody"])
def test_no_escape_from_bubblewrap(machine: str, open_folder: Path) -> None:
    assert escaped(MACHINES[machine], open_folder, "bubblewrap") == {
        "runtime": "bubblewrap",
        "account": "own",
        "files": "private root",
        "processes": "namespace",
        "system_calls": "filtered",
    }


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account of the machine may reach and write: only the sandbox keeps a grader out."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def escaped(options: tuple[str, ...], folder: Path, runtime: str) -> Any:
    """Try every escape; return what isolation is told, after all were kept in."""
    secret = folder / "secret"
    secret.write_text("key")
    secret.chmod(0o666)
    names = [name for name in NAMES if name != "a_call_passes"]
    if "without-namespaces" in options:
        names.remove("reads")  # world-readable files in the folders of shared libraries stay
    given = [Path(escapes.__file__).read_text(), names, list(escapes.CALLS), str(folder), runtime]
    found = python(options, TRY_ALL, given)
    stopped = {"processes": "ProcessLimit", "disk": "DiskLimit"}
    assert {
        name: outcome
        for name, outcome in found["outcome"].items()
        if outcome != 0.0 and stopped.get(name, "nothing") not in str(outcome)
    } == {}
    assert secret.read_text() == "key"
    assert folder.stat().st_mode & 0o7777 == 0o777
    return found["isolation"]


@pytest.mark.parametrize("missing", [("without-landlock", "without-namespaces"), ("without-seccomp",)])
def test_where_the_fence_cannot_be_had_code_is_refused(missing: tuple[str, ...], tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from bessemer.core.errors import GraderError
from bessemer.evals.grader import Limits, GraderServices
from bessemer.evals.graders import build, grade_batch
from bessemer.evals.sandbox import Sandbox, SandboxError
ran, secret = json.load(sys.stdin)
source = f"open({ran!r}, 'w').close()\\ndef grade(sample, item): return float(len(open(item['path']).read()))"
python = {"type": "python", "source": source}
refused = []
for grader in (
    python,
    {"type": "lambda", "source": source, "handler": "grade"},
    {"type": "multi", "graders": {"part": python}, "calculate_output": "part"},
):
    try:
        build(grader)
    except GraderError as error:
        refused.append([error.param, "unfenced_graders" in error.message])
try:
    Sandbox(source, "grade", "python", Limits()).call({}, {"path": secret})
except SandboxError as error:
    refused.append(error.kind)
early = Path(ran).exists()
harmless = {"type": "python", "source": "def grade(sample, item): return 3"}
with build(harmless, GraderServices(unfenced=True)) as grader:
    reward = grade_batch(grader, [("", {"path": secret})])[0].reward
print(json.dumps({"refused": refused, "ran early": early, "reward": reward}))
"""
    assert python(missing, code, [str(tmp_path / "ran"), str(tmp_path / "secret")]) == {
        "refused": [["grader.type", True], ["grader.type", True], ["grader.graders.part.type", True], "Unfenced"],
        "ran early": False,
        "reward": 3.0,
    }


HUNGRY = """
import os, time

def grade(sample, item):
    for _ in range(item["children"]):
        if os.fork() == 0:
            block = bytearray(item["mb"] << 20)
            for place in range(0, len(block), 4096):
                block[place] = 1
            time.sleep(30)
            os._exit(0)
    time.sleep(30 if item["children"] else 0)
    return 1.0
"""


def test_memory_is_limited_for_all_processes_together() -> None:
    limits = Limits(wall_s=20, cpu_s=20, memory_mb=512)
    with build({"type": "python", "source": HUNGRY}, GraderServices(limits=limits)) as grader:
        start = time.monotonic()
        results = grade_batch(grader, [("", {"children": 6, "mb": 200}), ("", {"children": 0, "mb": 0})], concurrency=1)
    assert "MemoryLimit" in (results[0].errors.python_grader_runtime_error_details or "")
    assert results[1].reward == 1.0
    assert time.monotonic() - start < 15


def test_processor_time_is_limited_for_all_processes_together() -> None:
    source = "import os\ndef grade(s, i):\n    for _ in range(8): os.fork()\n    while True: pass"
    with build({"type": "python", "source": source}, GraderServices(limits=Limits(wall_s=30, cpu_s=1))) as grader:
        result = grade_batch(grader, [("", {})])[0]
        assert "Limit" in (result.errors.python_grader_runtime_error_details or "")


@pytest.mark.parametrize("machine", ["whole", "no namespaces"])
def test_each_grade_starts_with_an_empty_folder_and_ends_with_its_processes(machine: str) -> None:
    code = """
import json, sys
from bessemer.evals.grader import Limits, GraderServices
from bessemer.evals.graders import build, grade_batch
json.load(sys.stdin)
source = '''
import os, time
open("at import", "w").close()
def grade(sample, item):
    found = len(os.listdir("."))
    os.mkdir("closed", 0o300)
    open("closed/file", "w").close()
    open("file", "w").close()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(200):
                open(f"late {number}", "w").close()
                time.sleep(0.01)
        os._exit(0)
    return found
'''
with build({"type": "python", "source": source}, GraderServices(limits=Limits(workers=1))) as grader:
    print(json.dumps([result.reward for result in grade_batch(grader, [("", {})] * 5, concurrency=1)]))
"""
    seen = python(MACHINES[machine], code, None)
    assert seen == [0.0] * 5


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import os\nfor _ in range(5): os.fork()\nwhile True: pass",
        "bytearray(8 << 30)",
        "-" * 60_000 + "1",
        "x = 2 ** 10 ** 9",
        "(" * 200 + ")" * 200,
        "def grade(:",
        "def other(sample, item): return 1.0",
        "raise SystemExit",
        "import os; os._exit(0)",
        "import os; os.kill(os.getpid(), 9)",
        "\0",
    ],
)
def test_a_source_that_does_not_load_is_refused_in_time(source: str) -> None:
    start = time.monotonic()
    with pytest.raises(GraderError, match="does not load") as refused:
        check({"type": "python", "source": source}, GraderServices(limits=Limits(load_s=1.5)))
    assert refused.value.param == "grader.source"
    assert time.monotonic() - start < 15


def test_a_source_is_short() -> None:
    with pytest.raises(GraderError, match="65536"):
        build({"type": "python", "source": "#" + "é" * 40_000})


WRITES = """
import os, struct
def say(body):
    for number in range(3, 64):
        try:
            os.write(number, struct.pack(">I", len(body)) + body)
        except OSError:
            pass
"""


@pytest.mark.parametrize(
    "body",
    [
        "b'[1]'",
        "b'[' * 100_000",
        "b'{\"value\": ' + b'[' * 50_000",
        "b'\\xff'",
        "b''",
        "b'null'",
        "b'{\"value\": 1e999}'",
        "b'{\"value\": 1' + b'0' * 5_000 + b'}'",
        "b'NaN'",
        "b'x' * 2_000_000",
    ],
)
@pytest.mark.parametrize("place", ["at import", "in a call"])
def test_what_is_written_on_the_pipes_is_no_reward(body: str, place: str) -> None:
    source = WRITES + (f"say({body})\n" if place == "at import" else "")
    source += f"def grade(sample, item):\n    say({body})\n    os._exit(0)"
    with build({"type": "python", "source": source}, GraderServices(limits=Limits(wall_s=2, load_s=2))) as grader:
        for result in grade_batch(grader, [("", {})] * 2, concurrency=1):
            assert result.reward is None
            assert result.errors.any


@pytest.mark.parametrize(
    "value", ["10 ** 400", "-(10**400)", "float('inf')", "float('nan')", "'1'", "None", "[]", "1j"]
)
def test_a_reward_that_is_no_number_is_unscorable(value: str) -> None:
    lambda_source = (
        "def lambda_handler(event, context):\n"
        f"    return [{{'id': one['id'], 'aggregate_reward_score': {value}}} for one in event]"
    )
    for grader in (
        {"type": "python", "source": f"def grade(sample, item): return {value}"},
        {"type": "lambda", "source": lambda_source},
    ):
        with build(grader) as built:
            result = grade_batch(built, [("", {})])[0]
        assert result.reward is None
        assert result.errors.any


def test_honest_tools_work() -> None:
    source = """
import json, subprocess, sys, tempfile, threading, re, decimal, datetime, zoneinfo, sqlite3, hashlib, random
from concurrent.futures import ThreadPoolExecutor
import numpy
def grade(sample, item):
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/code.py", "w") as file:
        file.write("print(6 * 7)")
        file.flush()
        said = subprocess.run([sys.executable, file.name], capture_output=True, text=True, timeout=4, check=True).stdout
    with ThreadPoolExecutor(4) as threads:
        total = sum(threads.map(abs, range(10)))
    rows = sqlite3.connect("some.db").execute("select 1").fetchall()
    datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Berlin"))
    return float(int(said) + total + len(rows) + numpy.linalg.norm(numpy.eye(3)) * 0)
"""
    with build({"type": "python", "source": source}) as grader:
        result = grade_batch(grader, [("", {})])[0]
    assert result.reward == 88.0, result.errors


@pytest.mark.parametrize("messages", [5, "text", {"role": "user"}, None])
def test_a_lambda_grader_says_what_messages_must_be(messages: Any) -> None:
    source = "def lambda_handler(event, context): return [{'id': e['id'], 'aggregate_reward_score': 1} for e in event]"
    with build({"type": "lambda", "source": source}) as grader:
        wrong, right = grade_batch(grader, [("", {"messages": messages}), ("", {"messages": []})])
    assert wrong.reward is None
    assert wrong.errors.invalid_variable_error
    assert "item.messages" in (wrong.errors.python_grader_runtime_error_details or "")
    assert right.reward == 1.0


def test_a_thread_left_in_the_server_does_not_run_between_calls() -> None:
    source = """
import threading, time
count = 0
def run():
    global count
    while True:
        count += 1
        time.sleep(0.001)
threading.Thread(target=run, daemon=True).start()
def grade(sample, item): return float(count)
"""
    sandbox = Sandbox(source, "grade", "python", Limits(workers=1))
    try:
        before = sandbox.call({}, {})
        time.sleep(1.0)
        assert sandbox.call({}, {}) - before < 300
    finally:
        sandbox.close()


def test_the_fence_is_told() -> None:
    assert isolation().fenced
