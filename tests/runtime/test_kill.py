"""kill -9 of the server loses nothing that was answered, nor does the loss of its database's file."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import openai
import pytest
from tests.live import Server, Upstream, start_server, stop_server


def talk(server: Server, inferences: list[str], verdicts: list[str]) -> None:
    """Ask and give feedback until the server is gone; keep what it acknowledged."""
    client = server.openai()
    try:
        while True:
            answer = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
            inference = answer.model_extra["bessemer"]["inference_id"]
            inferences.append(inference)
            body = {"inference_id": inference, "metric": "verdict", "value": True}
            verdicts.append(client.post("/feedback", body=body, cast_to=object)["id"])
    except openai.APIConnectionError:
        return


def test_a_killed_server_has_every_acknowledged_row_when_it_is_back(tmp_path: Path, upstream: Upstream) -> None:
    server = start_server(tmp_path, upstream, "--no-worker")
    inferences: list[str] = []
    verdicts: list[str] = []
    talkers = [threading.Thread(target=talk, args=(server, inferences, verdicts)) for _ in range(4)]
    for talker in talkers:
        talker.start()
    while len(verdicts) < 40:
        talkers[0].join(0.02)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(10)
    for talker in talkers:
        talker.join(20)
    server.hang_up()
    assert server.process.stdout is not None
    server.process.stdout.close()

    again = start_server(tmp_path, upstream, "--no-worker")
    client = again.openai()
    assert client.get(f"/inferences/{inferences[-1]}", cast_to=object)["id"] == inferences[-1]
    kept = {row["id"] for row in client.get("/inferences?limit=1000", cast_to=object)["data"]}
    kept_verdicts = {row["id"] for row in client.get("/feedback?limit=1000", cast_to=object)["data"]}
    stop_server(again)
    assert set(inferences) <= kept
    assert set(verdicts) <= kept_verdicts


def ready(client: openai.OpenAI, url: str) -> bool:
    try:
        client.get(f"{url}/readyz", cast_to=object)
    except openai.InternalServerError as error:
        assert error.response.json()["database"] == "unavailable"
        return False
    return True


def ask(client: openai.OpenAI) -> str:
    answer = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    return answer.model_extra["bessemer"]["inference_id"]


@pytest.mark.long
def test_a_database_that_is_gone_is_noticed_and_has_every_row_when_it_is_back(
    tmp_path: Path, upstream: Upstream
) -> None:
    server = start_server(tmp_path, upstream, "--no-worker")
    client = server.openai()
    asked = [ask(client)]
    away = tmp_path / "away"
    away.mkdir()
    files = sorted(server.data.glob("bessemer.db*"))
    for path in files:
        path.rename(away / path.name)
    asked += [ask(client) for _ in range(20)]
    verdict = {"inference_id": asked[0], "metric": "verdict", "value": True}
    given = client.post("/feedback", body=verdict, cast_to=object)["id"]
    assert not ready(client, server.url)
    with pytest.raises(openai.InternalServerError, match="gone"):
        client.post("/keys", body={"name": "new"}, cast_to=object)
    assert not list(server.data.glob("bessemer.db*"))
    key = (server.data / "admin.key").read_text()

    server.process.send_signal(signal.SIGKILL)
    server.process.wait(10)
    server.hang_up()
    assert server.process.stdout is not None
    server.process.stdout.close()
    command = [sys.executable, "-m", "bessemer", "up", "--port", "0", "--data", str(server.data)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "restore the database" in refused.stderr.splitlines()[-1]
    assert not list(server.data.glob("bessemer.db*"))
    assert (server.data / "admin.key").read_text() == key, "no new first key"

    for path in files:
        (away / path.name).rename(path)
    again = start_server(tmp_path, upstream, "--no-worker")
    client = again.openai()
    found = {row["id"] for row in client.get("/inferences?limit=1000", cast_to=object)["data"]}
    judged = {row["id"] for row in client.get("/feedback?limit=1000", cast_to=object)["data"]}
    stop_server(again)
    assert set(asked) <= found
    assert given in judged


@pytest.mark.long
def test_a_database_that_comes_back_to_a_running_server_has_every_row(tmp_path: Path, upstream: Upstream) -> None:
    server = start_server(tmp_path, upstream, "--no-worker")
    client = server.openai()
    path, away = server.data / "bessemer.db", tmp_path / "away.db"
    asked = [ask(client)]
    path.rename(away)
    asked += [ask(client) for _ in range(20)]
    assert not ready(client, server.url)
    away.rename(path)
    deadline = time.monotonic() + 20
    while not ready(client, server.url):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    asked += [ask(client) for _ in range(20)]
    found = {row["id"] for row in client.get("/inferences?limit=1000", cast_to=object)["data"]}
    stop_server(server)
    assert set(asked) <= found
