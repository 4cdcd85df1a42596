"""What a person sees: help, tables that can be copied from, nothing that moves the cursor."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from tests.cli.test_cli import Run, check_refused, command, run
from tests.live import OFFLINE, Server

from bessemer.cli.main import app
from bessemer.cli.output import printable

__all__ = ["run"]
ROOT = Path(__file__).parents[2]


def on_a_terminal(columns: int, *arguments: str) -> str:
    """Run a command line on a terminal of so many columns and return what it shows."""
    leader, follower = pty.openpty()
    env = {**os.environ, **OFFLINE, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([sys.executable, "-m", "bessemer", *arguments], stdout=follower, env=env)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.parametrize("group", [(), ("jobs",), ("eval",), ("keys",), ("plan",), ("versions",), ("graders",)])
def test_a_bare_group_shows_its_help(group: tuple[str, ...]) -> None:
    done = command(*group)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Commands:" in done.stdout
    assert done.stdout.count("\n") > 8


def test_the_version_and_completion_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # not every shell is a parent of its tests
    assert re.fullmatch(r"bessemer \d+\.\d+\.\d+\n", command("--version").stdout)
    assert "_BESSEMER_COMPLETE" in command("--show-completion", "bash").stdout


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_ids_can_be_copied_from_a_terminal(server: Server, run: Run, tmp_path: Path, columns: int) -> None:
    rows = tmp_path / f"a file with a rather long name, so that the table is wide {columns}.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}], "answer": "y"}) + "\n")
    file_id = json.loads(run("files", "upload", str(rows), "--json").stdout)["target"]
    shown = on_a_terminal(columns, "--data", str(server.data), "files", "list")
    assert file_id in shown


def test_a_name_cannot_move_the_cursor_or_end_the_command(server: Server, run: Run, tmp_path: Path) -> None:
    rows = tmp_path / "\x1b[2J\x1b[31m[bold red]\u202e.jsonl"
    rows.write_text(json.dumps({"messages": [{"role": "user", "content": "x"}], "answer": "y"}) + "\n")
    made = run("files", "upload", str(rows))
    assert made.returncode == 0
    shown = on_a_terminal(200, "--data", str(server.data), "files", "list")
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    answer = server.openai().chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    inference = answer.model_extra["bessemer"]["inference_id"]  # type: ignore[index]
    assert run("feedback", "add", "[/bold] \x1b[2J", "--metric", "comment", "--inference", inference).returncode == 0
    listed = on_a_terminal(200, "--data", str(server.data), "feedback", "list")
    assert "[/bold] \\x1b[2J" in listed
    assert "\x1b" not in check_refused(run("jobs", "show", "\x1b[2J"))


def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[1m\x00\x9b\u202eb") == "a\\x1b[1m\\x00\\x9b\\u202eb"
    assert printable("Käse\t名前\n👍") == "Käse\t名前\n👍"


def shown(page: str) -> list[str]:
    """Return the command lines in a page's fenced blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    pattern = re.compile(r"^(?:\.venv/bin/)?(bessemer [a-z-][^#\n]*)", flags=re.MULTILINE)
    return [line.strip() for block in blocks for line in pattern.findall(block)]


def documented() -> list[str]:
    """Return every command line that README and docs show, in a block or within a sentence."""
    pages = [page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))]
    within = [line for page in pages for line in re.findall(r"`(?:\.venv/bin/)?(bessemer [a-z-][^`]*)`", page)]
    return sorted({*(line for page in pages for line in shown(page)), *within})


@pytest.mark.parametrize("line", documented())
def test_every_documented_command_parses(line: str) -> None:
    """A verb alone is spoken of, not shown; `[…]` and `...` stand for what may be left out."""
    words = [word for word in shlex.split(line)[1:] if not word.startswith(("[", "…", "...")) and word != "VERB"]
    here = typer.main.get_command(app)
    while words and hasattr(here, "commands") and not words[0].startswith("-"):
        if words[0] not in here.commands:
            assert here.name == "plan", f"{line}: no verb {words[0]!r}"  # `plan FILE` is short for `plan run FILE`
            here = here.commands["run"]
            break
        here = here.commands[words.pop(0)]
    if words and words != ["--help"]:
        here.make_context(line, words)


def test_the_readme_commands_run(server: Server, run: Run) -> None:
    """What reads and writes runs for real; `up` runs already, and a plan is made in test_plan.py."""
    answer = server.openai().chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    inference = answer.model_extra["bessemer"]["inference_id"]  # type: ignore[index]
    lines = [line for line in shown((ROOT / "README.md").read_text()) if line.split()[1] not in {"up", "plan"}]
    assert len(lines) >= 5
    for line in lines:
        words = line.replace("INFERENCE_ID", inference).replace("record-matching", "assistant").split()[1:]
        words += ["--no-wait"] if words[0] == "ladder" else []  # this server has no worker
        done = run(*words)
        if {"VERSION", "MODEL"} & set(words):  # refused for what it names, not for how it is written
            assert re.search("VERSION|MODEL|no change|nothing", check_refused(done)), line
        else:
            assert done.returncode == 0, (line, done.stderr)
