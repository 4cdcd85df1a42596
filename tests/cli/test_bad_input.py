"""Whatever a command line is given, a wrong one ends with one line that names what is wrong and exit code 2."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.foreign import Quiet, serving

from bessemer.cli.main import run

Refused = Callable[..., str]
KEY = ("--key", "bsm-x")
PLAN = str(Path(__file__).parents[2] / "plans" / "production.toml")
LONG = "x" * 5000
"""Longer than a path may be."""


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a command line that must be refused and return its one line."""
    monkeypatch.chdir(tmp_path)

    def check(*arguments: str) -> str:
        assert run(list(arguments)) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
        assert said.err.startswith("error: ")
        return said.err

    return check


class _SomethingElse(Quiet):
    """A server that is no Bessemer: answers everything with 200 and the body that the path's first part names."""

    bodies = {  # noqa: RUF012
        "html": b"<html>welcome</html>",
        "bytes": b"\xff\xfe\x00",
        "list": b"[1]",
        "number": b"3",
        "deep": b"[" * 200_000,
        "empty": b"{}",
        "other": b'{"data": 3}',
    }

    def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = self.bodies[self.path.split("/")[1]]
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """The address of a server that is no Bessemer."""
    with serving(_SomethingElse) as url:
        yield url


@pytest.mark.parametrize(
    "url",
    ["http://localhost:abc", "http://localhost:99999", "http://[::1", "http://a..b", f"http://{'a' * 64}.x",
     "http://хост", "http://localhost/путь", "http://local host", "http://a\nb", "localhost:8080"],
)  # fmt: skip
def test_a_url_that_is_none(refused: Refused, url: str) -> None:
    assert "--url" in refused("--url", url, *KEY, "models", "list")


@pytest.mark.parametrize("key", ["ключ", "bsm-\nx", "bsm x"])
def test_a_key_that_is_none_is_not_repeated(refused: Refused, key: str) -> None:
    line = refused("--url", "http://127.0.0.1:9", "--key", key, "models", "list")
    assert "--key" in line
    assert key not in line


def test_a_key_file_that_is_no_text(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_bytes(b"\xff\xfe")
    assert "--key" in refused("--data", str(tmp_path), "models", "list")


@pytest.mark.parametrize("body", _SomethingElse.bodies)
@pytest.mark.parametrize(
    "verb",
    [("models", "list"), ("keys", "create", "x"), ("jobs", "wait", "x"), ("files", "upload", "rows.jsonl"),
     ("plan", "run", PLAN, "--from-traffic", "x")],
)  # fmt: skip
def test_an_address_where_something_else_answers(
    refused: Refused, elsewhere: str, tmp_path: Path, body: str, verb: tuple[str, ...]
) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert "--url" in refused("--url", f"{elsewhere}/{body}", *KEY, *verb)


@pytest.mark.parametrize("content", [b'["a"]', b"3", b"null", b"\xff\xfe\x00", b"[" * 200_000])
@pytest.mark.parametrize(
    "verb",
    [("routes", "put", "x", "--file"), ("jobs", "create", "--model", "m", "--training-file", "f", "--grader"),
     ("eval", "run", "--dataset", "d", "--system", "s", "--metric", "reward", "--grader")],
)  # fmt: skip
def test_a_file_that_holds_no_object(refused: Refused, tmp_path: Path, content: bytes, verb: tuple[str, ...]) -> None:
    file = tmp_path / "file.json"
    file.write_bytes(content)
    assert "file.json" in refused(*KEY, *verb, str(file), "--dry-run")


@pytest.mark.parametrize("verb", [("models", "show"), ("versions", "list", "--model"), ("keys", "create")])
def test_an_argument_that_is_no_utf_8(refused: Refused, verb: tuple[str, ...]) -> None:
    assert "UTF-8" in refused(*KEY, *verb, "\udcff")


def test_a_file_where_a_folder_is_needed(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    assert "--out" in refused("demo", "--data", "/etc/passwd", "--out", str(tmp_path / "taken"))


@pytest.mark.parametrize(
    "arguments",
    [("up", "--config", LONG), ("plan", "new", LONG), ("plan", "new", "--requests", "inf"),
     ("up", "--settings", "bytes"), ("plan", "evaluate", "bytes"), ("plan", "evaluate", LONG),
     ("plan", "evaluate", "."), ("plan", "run", PLAN, "--trace", "bytes"), ("--data", ".", "plan", "check")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_or_written(refused: Refused, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "prices.csv").write_bytes(b"\xff\xfe\x00")
    refused(*arguments)


def refused_process(*arguments: str, **variables: str) -> str:
    """Do as `refused` in a process of its own, for verbs that set up the log and the event loop."""
    command = [sys.executable, "-m", "bessemer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | variables, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("verb", "folder"), [("up", "/etc/passwd"), ("up", "/sys/bessemer"), ("up", LONG), ("worker", "/etc/passwd")]
)
def test_a_data_folder_that_cannot_be_written(verb: str, folder: str) -> None:
    line = refused_process(verb, "--data", folder)
    assert folder[:100] in line
    assert "--data" in line


@pytest.mark.parametrize(
    ("variable", "value", "names"),
    [("BESSEMER_PORT", "99999", "port"), ("BESSEMER_HOST", "ключ..x", "--host"),
     ("BESSEMER_DATABASE_URL", "postgresql://u:secret@host:port/name", "database_url"),
     ("BESSEMER_DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/name?nonsense=1", "database_url"),
     ("BESSEMER_DATABASE_URL", "sqlite:////etc/passwd/bessemer.db", "database_url"),
     ("BESSEMER_DATABASE_URL", "sqlite:///x.db?timeout=abc", "database_url"),
     ("BESSEMER_DATABASE_URL", "sqlite:////etc/passwd", "database_url")],
)  # fmt: skip
def test_a_setting_that_cannot_be(tmp_path: Path, variable: str, value: str, names: str) -> None:
    (tmp_path / "bessemer.toml").touch()
    line = refused_process("up", "--data", str(tmp_path), "--no-worker", **{"BESSEMER_PORT": "0", variable: value})
    assert names in line
    assert "secret" not in line


def test_the_end_of_input_at_a_question_ends_the_command(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "bessemer", "plan", "new", str(tmp_path / "plan.toml")],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, b"\x04")
    _, said = asking.communicate(timeout=60)
    os.close(ours)
    assert asking.returncode == 130
    assert "Traceback" not in said
    assert not (tmp_path / "plan.toml").exists()
