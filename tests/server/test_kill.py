"""kill -9 of the server loses nothing that was answered."""

import signal
import threading
from pathlib import Path

import openai
from tests.server.live import Server, Upstream, start_server, stop_server


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
