"""A full disk: nothing is acknowledged that is kept nowhere, readiness says so, and space brings it back."""

import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest
from tests.live import Server, Upstream, start_server, stop_server

FULL = 4096
"""No file of the process may grow beyond; those that are longer already can't grow at all."""


class Disk:
    """What the server writes to, and how to fill it and make room."""

    def __init__(self, fill: Callable[[Server], None], free: Callable[[Server], None]) -> None:
        self.fill, self.free = fill, free


@pytest.fixture(params=["file size limit", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "file size limit":
        # SIGXFSZ is ignored by Python: the kernel answers writes with an error, as a full disk does.
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield Disk(
            lambda server: limit(server, (FULL, unlimited[1])),
            lambda server: limit(server, unlimited),
        )
        return
    data = tmp_path / "data"
    data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount here")
    ballast = data / "ballast"

    def fill(_server: Server) -> None:
        with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as target:
            while True:
                target.write(b"x" * 4096)

    yield Disk(fill, lambda _server: ballast.unlink())
    subprocess.run(["umount", "-l", str(data)], check=True)


def limit(server: Server, limits: tuple[int, int]) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)


def ask(client: openai.OpenAI) -> str | None:
    """Return the id of an acknowledged inference, None when it was refused for want of a place to keep it."""
    try:
        answer = client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "x" * 3000}])
    except openai.InternalServerError as error:
        assert error.status_code == 503
        assert "journal" in error.message
        return None
    return answer.model_extra["bessemer"]["inference_id"]


def judge(client: openai.OpenAI, inference: str | None) -> str | None:
    """Return the id of an acknowledged verdict, None when it was refused."""
    body = {
        "inference_id": inference,
        "metric": "verdict",
        "value": True,
        "tags": {f"t{i}": "x" * 500 for i in range(6)},
    }
    try:
        return client.post("/feedback", body=body, cast_to=object)["id"]
    except openai.InternalServerError as error:
        assert error.status_code == 503
        return None


def readiness(client: openai.OpenAI) -> tuple[int, dict[str, str]]:
    root = str(client.base_url).removesuffix("/v1/")
    try:
        answer = client.get(f"{root}/readyz", cast_to=object)
    except openai.InternalServerError as error:
        return error.status_code, error.response.json()
    return 200, answer


def until(reached: Callable[[], object], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_acknowledged_on_a_full_disk_is_kept(
    tmp_path: Path, upstream: Upstream, disk: Disk, end: signal.Signals
) -> None:
    server = start_server(tmp_path, upstream, "--no-worker")
    client = server.openai()
    kept: list[str | None] = [ask(client)]
    disk.fill(server)
    until(lambda: kept.append(ask(client)) or kept[-1] is None, 60)  # SQLite has some room left in its own files
    verdicts = [judge(client, kept[0]) for _ in range(20)]
    assert None in verdicts

    def refused_before_the_model_was_asked() -> bool:
        asked = len(upstream.fake.bodies)
        kept.append(ask(client))
        return kept[-1] is None and len(upstream.fake.bodies) == asked

    until(refused_before_the_model_was_asked)
    status, parts = readiness(client)
    assert (status, parts["journal"]) == (503, "unavailable")

    server.process.send_signal(end)
    code = server.process.wait(30)
    assert code == (0 if end == signal.SIGTERM else -signal.SIGKILL), "nothing that was answered is lost"
    server.hang_up()
    assert server.process.stdout is not None
    server.process.stdout.close()
    if (tmp_path / "data" / "ballast").exists():
        disk.free(server)

    again = start_server(tmp_path, upstream, "--no-worker")
    client = again.openai()
    found = {row["id"] for row in client.get("/inferences?limit=1000", cast_to=object)["data"]}
    judged = {row["id"] for row in client.get("/feedback?limit=1000", cast_to=object)["data"]}
    stop_server(again)
    assert {one for one in kept if one is not None} <= found
    assert {one for one in verdicts if one is not None} <= judged


@pytest.mark.long
def test_with_space_again_answers_go_on(tmp_path: Path, upstream: Upstream, disk: Disk) -> None:
    server = start_server(tmp_path, upstream, "--no-worker")
    client = server.openai()
    assert ask(client)
    disk.fill(server)
    kept: list[str | None] = []
    until(lambda: kept.append(ask(client)) or kept[-1] is None, 60)
    assert readiness(client)[0] == 503
    disk.free(server)
    until(lambda: readiness(client)[0] == 200)
    kept.append(ask(client))
    assert kept[-1]
    found = {row["id"] for row in client.get("/inferences?limit=1000", cast_to=object)["data"]}
    stop_server(server)
    assert {one for one in kept if one is not None} <= found


@pytest.mark.long
def test_best_effort_answers_all_the_same_and_does_not_end_as_if_all_were_well(
    tmp_path: Path, upstream: Upstream, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESSEMER_RECORD", "best_effort")
    server = start_server(tmp_path, upstream, "--no-worker")
    client = server.openai()
    disk.fill(server)
    assert all(ask(client) for _ in range(20))
    assert readiness(client)[0] == 503
    server.hang_up()
    server.process.terminate()
    assert server.process.wait(30) != 0
    if server.log.stat().st_size > FULL:  # its own log is a file, too
        assert "answered requests are not recorded" in server.log.read_text()
    assert server.process.stdout is not None
    server.process.stdout.close()
