"""The owner's key on disk: told by its place, gone with its key, made anew on the machine when all is lost."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.asking import ask, key_of
from tests.live import Upstream, start_server, stop_server

from bessemer.store import keys
from bessemer.store.database import Database


def bessemer(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bessemer", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_the_last_owner_stays_and_who_has_lost_the_key_makes_another(tmp_path: Path, upstream: Upstream) -> None:
    running = start_server(tmp_path, upstream, "--no-worker")
    file = running.data / "admin.key"

    def owned() -> list[dict[str, Any]]:
        rows = ask(running, "GET", "/v1/keys", running.key)[1]["data"]
        return [row for row in rows if row["role"] == "owner" and row["revoked_at"] is None]

    (first,) = owned()
    refused = ask(running, "DELETE", f"/v1/keys/{first['id']}", running.key)
    assert (refused[0], refused[1]["error"]["code"]) == (409, "last_owner")
    second = key_of(running, "owner")
    assert file.read_text().strip() == running.key
    assert ask(running, "DELETE", f"/v1/keys/{first['id']}", second)[0] == 200
    assert not file.exists()
    assert ask(running, "GET", "/v1/keys", running.key)[0] == 401

    made = bessemer("--data", str(running.data), "keys", "recover")
    assert (made.returncode, made.stderr) == (0, "")
    recovered = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert recovered not in made.stdout
    assert str(file) in made.stdout
    assert ask(running, "GET", "/v1/keys", recovered)[0] == 200
    told = ask(running, "GET", "/v1/audit?action=api_key.created&limit=1", recovered)[1]["data"][0]
    assert (told["actor"], told["detail"]) == ("system", {"recovered": True})
    stop_server(running)


def test_the_key_is_not_told_where_it_would_be_kept(tmp_path: Path, upstream: Upstream) -> None:
    running = start_server(tmp_path, upstream, "--no-worker")
    assert running.process.stdout is not None
    second_line = running.process.stdout.readline()
    assert "admin.key" in second_line
    assert running.key not in second_line
    assert running.key not in running.log.read_text()
    stop_server(running)


def test_recovery_without_a_database_makes_none(tmp_path: Path) -> None:
    done = bessemer("--data", str(tmp_path), "keys", "recover")
    assert done.returncode == 2
    assert "There is no database" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_recovery_needs_no_server(tmp_path: Path) -> None:
    database = Database.open_url(f"sqlite:///{tmp_path / 'bessemer.db'}")
    made = json.loads(bessemer("--data", str(tmp_path), "keys", "recover", "--json").stdout)
    assert [key.id for key in keys.find(database)] == [made["target"]]
    database.close()
