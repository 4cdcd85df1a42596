"""An answer that the end of the server cuts off is recorded as that, not as a client who left."""

import threading
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from tests.live import Upstream, start_server, stop_server

from bessemer.core.settings import Settings
from bessemer.store import inferences
from bessemer.store.database import Database
from lab.fake_openai import Script

HI = [{"role": "user", "content": "hi"}]


@pytest.mark.long
def test_answers_that_a_stop_cuts_off_are_recorded_as_stopped(tmp_path: Path, upstream: Upstream) -> None:
    running = start_server(tmp_path, upstream, "--no-worker")
    upstream.scripts.waiting.extend([Script(pieces=("a",) * 1000, between_s=0.05), Script(first_token_s=60)])
    begun = threading.Event()
    cut: list[BaseException] = []

    def read(client: OpenAI) -> None:
        try:
            for _ in client.chat.completions.create(model="assistant", messages=HI, stream=True):
                begun.set()
        except Exception as error:  # the client's or its HTTP library's: the stream ended in the middle
            cut.append(error)

    def wait(client: OpenAI) -> None:
        try:
            client.chat.completions.create(model="assistant", messages=HI)
        except openai.APIError as error:
            cut.append(error)

    threads = [threading.Thread(target=read, args=(running.openai(),))]
    threads[0].start()
    assert begun.wait(10)
    threads.append(threading.Thread(target=wait, args=(running.openai(),)))
    threads[1].start()
    while len(upstream.fake.bodies) < 2:
        threads[1].join(0.05)
    clients, running.clients = running.clients, []
    stop_server(running)
    for thread in threads:
        thread.join(20)
    for client in clients:
        client.close()
    assert len(cut) == 2
    database = Database.open(Settings(data=running.data))
    errors = [row.error for row in inferences.find(database, limit=None)]
    database.close()
    assert [error and error.partition(":")[0] for error in errors] == ["server_stopped"] * 2
