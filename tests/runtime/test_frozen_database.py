"""A database that takes connections and never answers: inference and feedback go on, the rest says so or waits."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server
from tests.store.forwarder import Forwarder

from bessemer.store import versions as versions_store
from bessemer.store.database import Database

pytestmark = pytest.mark.postgres
SOON_S = 4.0
"""Less than the five seconds after which connecting is given up, which would end a wait by itself."""
AT_ONCE = 8
"""More requests of a kind than the event loop has threads."""

Ask = Callable[[Server], Any]
ASKING: dict[str, Ask] = {
    "readiness": lambda server: server.openai().get(f"{server.url}/readyz", cast_to=object),
    "an unknown key": lambda server: server.openai("bsm-unknown").models.list(),
    "an unknown model": lambda server: chat(server, "nothing"),
    "a route whose alias is gone": lambda server: chat(server, "orphan"),
    "an unknown version": lambda server: server.openai().get("/versions/nothing@0123456789ab", cast_to=object),
    "promoting it": lambda server: server.openai().post("/versions/nothing@0123456789ab/promote", cast_to=object),
    "cancelling a job": lambda server: server.openai().post("/fine_tuning/jobs/none/cancel", cast_to=object),
    "a list": lambda server: server.openai().get("/feedback", cast_to=object),
}


def chat(server: Server, model: str = "assistant", client: OpenAI | None = None) -> str:
    """Ask and return the inference's id."""
    client = client or server.openai()
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    return str(answer.model_extra["bessemer"]["inference_id"])  # type: ignore[index]


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream, forwarder: Forwarder) -> Iterator[Server]:
    """A server whose database is behind the forwarder."""
    started = start_server(tmp_path, upstream, "--no-worker", env={**OFFLINE, "BESSEMER_DATABASE_URL": forwarder.url})
    yield started
    forwarder.thaw()
    stop_server(started)


def put_orphan(server: Server, url: str) -> None:
    """Put the route `orphan`, whose only target is an alias that names nothing any more.

    The API refuses to take an alias from under a route; a data folder of an earlier release may hold such a route.
    """
    client = server.openai()
    versions: Any = client.get("/versions?model=small", cast_to=object)
    client.post(f"/versions/{versions['data'][0]['id']}/promote", body={"alias": "next"}, cast_to=object)
    client.put("/routes/orphan", body={"targets": ["small:next"]}, cast_to=object)
    database = Database.open_url(url)
    versions_store.roll_back(database, "small", "next", "as it once could be")
    database.close()
    while client.get("/aliases", cast_to=object)["data"]:  # type: ignore[index]
        time.sleep(0.05)


def start_asking(ask: Ask, server: Server) -> list[threading.Thread]:
    """Ask many times at once, whatever the answer."""

    def quietly() -> None:
        with contextlib.suppress(openai.OpenAIError):
            ask(server)

    askers = [threading.Thread(target=quietly) for _ in range(AT_ONCE)]
    for asker in askers:
        asker.start()
    time.sleep(0.5)
    return askers


def arrive(server: Server, path: str, ids: list[str]) -> bool:
    """Whether all of these come to be in a list, soon after the database is back."""
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        listed: Any = server.openai().get(path, cast_to=object)
        if set(ids) <= {row["id"] for row in listed["data"]}:
            return True
        time.sleep(0.1)
    return False


def test_inference_goes_on(server: Server, forwarder: Forwarder) -> None:
    client = server.openai().with_options(timeout=SOON_S)
    answered = [chat(server, client=client)]
    put_orphan(server, forwarder.url)
    forwarder.freeze()
    time.sleep(3.0)  # longer than anything in memory may count as fresh
    for name, ask in ASKING.items():
        askers = start_asking(ask, server)
        try:
            answered.append(chat(server, client=client))
        except openai.APITimeoutError:
            pytest.fail(f"{name} stopped inference")
        forwarder.thaw()
        for asker in askers:
            asker.join(30)
            assert not asker.is_alive(), name
        forwarder.freeze()
    forwarder.thaw()
    assert arrive(server, "/inferences?limit=100", answered)


def test_feedback_is_taken_and_readiness_is_denied(server: Server, forwarder: Forwarder) -> None:
    inference = chat(server)
    forwarder.freeze()
    askers = start_asking(ASKING["a list"], server)
    client = server.openai().with_options(timeout=SOON_S)
    body = {"inference_id": inference, "metric": "verdict", "value": True}
    feedback: Any = client.post("/feedback", body=body, cast_to=object)
    with pytest.raises(openai.InternalServerError, match="503"):
        client.get(f"{server.url}/readyz", cast_to=object)
    forwarder.thaw()
    for asker in askers:
        asker.join(30)
    assert arrive(server, "/feedback", [feedback["id"]])
    assert server.openai().get(f"{server.url}/readyz", cast_to=object)
