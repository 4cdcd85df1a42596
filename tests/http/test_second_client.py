"""Bodies that cost holding the interpreter hold up no second client, at any endpoint, and take little memory."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.asking import ask
from tests.live import Server

CHAT = "/v1/chat/completions"
RUN = "/v1/fine_tuning/alpha/graders/run"
ASKED = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
HAN = "".join(chr(0x4E00 + index % 20_000) for index in range(32_000))
WIDE = {str(index): "v" for index in range(400_000)}
FLAT = json.dumps({str(index): "v" for index in range(70_000)})
MIB = 1 << 20
PATIENCE_S = 1.0
"""Generous, for a busy machine; on a quiet one `checks/stalls.py` shows what is added."""
MEMORY_MB = 300


def gleu(name: str) -> dict[str, Any]:
    return {
        "type": "text_similarity",
        "name": name,
        "input": "{{sample.output_text}}",
        "reference": "{{item.r}}",
        "evaluation_metric": "gleu",
    }


MANY = {"type": "multi", "graders": {f"g{i}": gleu(f"g{i}") for i in range(16)}, "calculate_output": "g1"}
STALLS: dict[str, tuple[str, Any, int]] = {
    "wide metadata": (CHAT, ASKED | {"metadata": WIDE}, 400),
    "many biases": (CHAT, ASKED | {"logit_bias": {str(index): 1 for index in range(400_000)}}, 400),
    "wide input": (CHAT, ASKED | {"bessemer": {"input": WIDE}}, 400),
    "lists in lists": (CHAT, ASKED | {"bessemer": {"input": {"a": [[]] * 249_000}}}, 400),
    "many parts": (
        CHAT,
        ASKED | {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 150_000}]},
        400,
    ),
    "a name of 12 MB": (CHAT, {"w" * 12 * MIB: 1}, 400),
    "a model of 12 MB": (CHAT, ASKED | {"model": "w" * 12 * MIB}, 400),
    "a long text": (CHAT, ASKED | {"messages": [{"role": "user", "content": "word " * 3 * MIB}]}, 200),
    "gleu": (RUN, {"grader": gleu("g"), "model_sample": HAN, "item": {"r": HAN[7:]}}, 200),
    "gleu, sixteen times": (RUN, {"grader": MANY, "model_sample": HAN, "item": {"r": HAN[7:]}}, 200),
    "attributes": (RUN, {"grader": {"type": "attributes"}, "model_sample": FLAT, "item": {"target": FLAT}}, 200),
    "wide tags": ("/v1/feedback", {"inference_id": f"inf-{0:032}", "metric": "a", "value": 1, "tags": WIDE}, 413),
    "wide options": ("/v1/fine_tuning/jobs", {"model": "a", "training_file": "b", "metadata": WIDE}, 413),
}


@pytest.mark.parametrize("name", STALLS)
def test_a_second_client_does_not_wait(server: Server, name: str) -> None:
    path, value, expected = STALLS[name]
    hostile, small = json.dumps(value).encode(), json.dumps(ASKED).encode()
    before = memory_mb(server)
    outcome: list[int] = []
    asking = threading.Thread(target=lambda: outcome.append(ask(server, "POST", path, server.key, hostile)[0]))
    asking.start()
    worst = 0.0
    while True:
        begun = time.monotonic()
        assert ask(server, "POST", CHAT, server.key, small)[0] == 200
        worst = max(worst, time.monotonic() - begun)
        if not asking.is_alive():
            break
    assert outcome == [expected]
    assert worst < PATIENCE_S
    assert memory_mb(server) - before < MEMORY_MB


def memory_mb(server: Server) -> float:
    """The most memory that the process has had so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
