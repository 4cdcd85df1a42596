"""A database that somebody else writes to: what writes says so soon, inference goes on."""

import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.asking import ask, chat, upload
from tests.live import Server

ROW = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "A"}]}


@pytest.mark.long
def test_requests_do_not_wait_long_for_the_writes_of_others(server: Server) -> None:
    route = json.dumps({"targets": ["upstream"]}).encode()
    writes = [("POST", "/v1/keys", b'{"name": "n", "role": "app"}'), ("PUT", "/v1/routes/busy", route)] * 4
    other = sqlite3.connect(server.data / "bessemer.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with ThreadPoolExecutor(len(writes)) as pool:
            began = time.monotonic()
            asked = [pool.submit(ask, server, method, path, server.key, body) for method, path, body in writes]
            assert chat(server, server.key, "hi")
            answers = [one.result() for one in asked]
            took = time.monotonic() - began
    finally:
        other.rollback()
        other.close()
    assert [status for status, _, _ in answers] == [503] * len(writes), answers
    assert took < 10
    assert ask(server, *writes[0][:2], server.key, writes[0][2])[0] == 200
    assert upload(server, server.key, ROW)
