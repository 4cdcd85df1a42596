"""The command line against the real server: envelopes, exit codes, one line per error."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.live import OFFLINE, Server, start_server, stop_server

from bessemer.cli.main import app

GRADER = {"type": "string_check", "name": "g", "input": "{{sample.output_text}}", "reference": "y", "operation": "eq"}
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def command(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Done:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "bessemer", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **OFFLINE, **(env or {})},
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def run(server: Server) -> Run:
    return lambda *arguments: command("--data", str(server.data), *arguments)


def check_refused(done: Done) -> str:
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "noun",
    [("models", "list"), ("versions", "list"), ("versions", "aliases"), ("routes", "list"), ("jobs", "list"),
     ("feedback", "list"), ("dataset", "list"), ("eval", "list"), ("cascade", "list"), ("keys", "list"),
     ("files", "list"), ("usage",)],
)  # fmt: skip
def test_every_list_has_the_envelope(run: Run, noun: tuple[str, ...]) -> None:
    done = run(*noun, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    envelope = json.loads(done.stdout)
    assert set(envelope) == {"as_of", "counts", "rows", "truncated"}
    assert envelope["counts"]["rows"] == len(envelope["rows"])


def test_a_change_is_told_and_can_be_tried_dry(run: Run) -> None:
    dry = json.loads(run("keys", "create", "robot", "--dry-run", "--json").stdout)
    assert (dry["applied"], dry["dry_run"]) == (False, True)
    made = json.loads(run("keys", "create", "robot", "--role", "app", "--json").stdout)
    assert (made["applied"], made["dry_run"]) == (True, False)
    assert made["detail"]["key"].startswith("bsm-")
    names = [row["name"] for row in json.loads(run("keys", "list", "--json").stdout)["rows"]]
    assert names.count("robot") == 1
    assert "revoked" in run("keys", "revoke", made["target"]).stdout


def test_a_route_is_written_and_rolled_back(run: Run) -> None:
    assert run("routes", "put", "helper", "--target", "upstream", "--reason", "test").returncode == 0
    shown = json.loads(run("routes", "show", "helper", "--json").stdout)["rows"][0]
    assert shown["steps"][0]["targets"][0]["model"] == "upstream"
    assert run("routes", "rollback", "helper").returncode == 0
    assert "helper" in check_refused(run("routes", "show", "helper"))


def test_a_job_goes_from_file_to_cancelled(run: Run, tmp_path: Path) -> None:
    rows, grader = tmp_path / "rows.jsonl", tmp_path / "grader.json"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}], "answer": "y"}) + "\n")
    grader.write_text(json.dumps(GRADER))
    file_id = json.loads(run("files", "upload", str(rows), "--json").stdout)["target"]
    what = ("--model", "small", "--training-file", file_id, "--grader", str(grader), "--set", "n_epochs=2")
    made = run("jobs", "create", *what, "--json")
    job = json.loads(made.stdout)["detail"]
    assert job["method"]["reinforcement"]["hyperparameters"]["n_epochs"] == 2
    assert "Created" in run("jobs", "events", job["id"]).stdout
    assert "paused" in run("jobs", "pause", job["id"]).stdout
    assert run("jobs", "wait", job["id"]).returncode == 0, "nobody waits for a job that is paused"
    assert "cancelled" in run("jobs", "cancel", job["id"]).stdout
    assert "cannot be cancelled" in check_refused(run("jobs", "cancel", job["id"]))


@pytest.mark.parametrize(
    "arguments",
    [("nothing",), ("jobs", "nothing"), ("jobs", "list", "--limit", "many"), ("jobs", "list", "--limit", "0"),
     ("jobs", "show", "ftjob-none"), ("versions", "show", "a/b"), ("promote", "nothing@123456789abc"),
     ("routes", "put", "x"), ("routes", "put", "x", "--target", "nothing"), ("feedback", "add", "true"),
     ("jobs", "create", "--model", "small", "--training-file", "file-none", "--set", "n_epochs"),
     ("files", "upload", "/nonexistent.jsonl"), ("eval", "run", "--dataset", "ds-none", "--system", "assistant"),
     ("--url", "ftp://x", "models", "list"), ("up", "--port", "99999"), ("up", "--config", "/nonexistent.toml"),
     ("up", "--log-level", "loud")],
)  # fmt: skip
def test_a_wrong_command_is_one_line_and_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert check_refused(run(*arguments)).startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [(("nothing",), "usage"), (("jobs", "show", "x"), "not_found"),
     (("--key", "bsm-x", "models", "list"), "unauthorized"),
     (("--url", "http://127.0.0.1:9", "models", "list"), "unreachable"), (("keys", "create", ""), "invalid")],
)  # fmt: skip
def test_errors_are_json_when_asked(run: Run, arguments: tuple[str, ...], kind: str) -> None:
    error = json.loads(check_refused(run(*arguments, "--json")))
    assert set(error) == {"kind", "exception", "message", "status"}
    assert error["kind"] == kind


def test_without_a_key_the_remedy_is_named(tmp_path: Path) -> None:
    assert "--key" in check_refused(command("models", "list", cwd=tmp_path, env={"BESSEMER_DATA": ""}))


def test_the_admin_key_is_for_its_owner_alone(server: Server) -> None:
    assert stat.S_IMODE((server.data / "admin.key").stat().st_mode) == 0o600


def test_importing_the_command_line_is_quick_and_pulls_nothing_heavy() -> None:
    heavy = (
        "torch",
        "transformers",
        "starlette",
        "uvicorn",
        "sqlalchemy",
        "dbos",
        "numpy",
        "aiohttp",
        "openai",
        "rich.table",
    )
    code = f"import sys, bessemer.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    timed = "import time; t = time.process_time();" + code + "; print(time.process_time() - t < 1.0)"
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_one_server_runs_on_a_data_folder_and_restarts_with_its_key(server: Server, tmp_path: Path) -> None:
    second = command("up", "--data", str(server.data), "--port", "0")
    assert "Another process" in check_refused(second)
    folder = tmp_path / "own"
    folder.mkdir()
    first = start_server(folder, server.upstream, "--no-worker")
    stop_server(first)
    again = start_server(folder, server.upstream, "--no-worker")
    assert again.key == first.key
    assert command("--data", str(again.data), "models", "list").returncode == 0
    stop_server(again)


def verbs(command: Any, name: str) -> Iterator[str]:
    for key, sub in command.commands.items():
        if hasattr(sub, "commands"):
            yield from verbs(sub, f"{name} {key}")
        else:
            yield f"{name} {key}"


def test_the_reference_lists_every_verb() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "cli.md").read_text()
    documented = re.findall(r"^\| `(bessemer [^`]+)` \|", page, flags=re.MULTILINE)
    assert documented == list(verbs(typer.main.get_command(app), "bessemer"))
