"""A tuning method of somebody else's package: its rows are uploaded, a job of it runs over HTTP and leaves weights."""

import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.gateway.tiny import tiny_model
from tests.live import OFFLINE, Server, Upstream, start_server, stop_server, upstream

from bessemer.core.errors import InvalidRequest
from bessemer.feedback import rows
from bessemer.tuning import methods

__all__ = ["upstream"]
SOURCE = Path(__file__).parent / "dpo.py"
CONFIG = """
[models.small]
provider = "local"
path = "{folder}/tiny"
price = "none"
context_tokens = 512

[prices.none]
source = "a test"
date = "2026-01-01"
per_hour = 0.0
"""


def preference(number: int) -> dict[str, Any]:
    """Of two words the one that begins with a is better."""
    words = ["abcab", "xyzxy"]
    return {
        "input": {"messages": [{"role": "user", "content": f"{'pq'[number % 2]} {number}"}]},
        "preferred_output": [{"role": "assistant", "content": words[0]}],
        "non_preferred_output": [{"role": "assistant", "content": words[1]}],
    }


def upload(client: OpenAI, lines: list[Any]) -> str:
    content = "\n".join(map(json.dumps, lines)).encode()
    return client.files.create(file=("rows.jsonl", content), purpose="fine-tune").id


@pytest.fixture
def server(tmp_path: Path, upstream: Upstream) -> Iterator[Server]:
    """`bessemer up` with its worker, and the package on the path as an installer would leave it."""
    site = tmp_path / "site"
    about = site / "dpo-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "dpo.py").write_text(SOURCE.read_text())
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: dpo\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[bessemer.tuning_methods]\ndpo = dpo:Dpo\n")
    tiny_model(tmp_path / "tiny")
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    running = start_server(tmp_path, upstream, env={**OFFLINE, "PYTHONPATH": os.pathsep.join(paths)}, toml=CONFIG)
    yield running
    stop_server(running)


@pytest.mark.long
def test_a_job_of_a_method_from_outside_leaves_weights(server: Server, tmp_path: Path) -> None:
    client = server.openai()
    training = upload(client, [preference(i) for i in range(24)])
    validation = upload(client, [preference(50), preference(51)])
    with pytest.raises(openai.BadRequestError, match="'beta' must be 'auto' or 0 to 2"):
        create(client, training, validation, beta=7)
    with pytest.raises(openai.BadRequestError, match=r"Unknown parameter: 'method.dpo.hyperparameters.gamma'"):
        create(client, training, validation, gamma=1)
    with pytest.raises(openai.BadRequestError, match=r"bessemer.credit belongs to reinforcement jobs"):
        create(client, training, validation, metadata={"bessemer.credit": "field"})
    with pytest.raises(openai.BadRequestError, match="it is a preference; supervised rows end in"):
        client.fine_tuning.jobs.create(model="small", training_file=training)
    job = create(client, training, validation, beta=0.5, n_epochs=3, batch_size=4, learning_rate_multiplier=5)
    assert (job.method.type, job.method.dpo.hyperparameters.beta) == ("dpo", 0.5)
    ended = finished(client, job.id)
    assert ended.status == "succeeded", ended.error
    assert ended.fine_tuned_model
    table = client.files.content(ended.result_files[0]).text.splitlines()
    losses = [float(line.split(",")[table[0].split(",").index("train_loss")]) for line in table[2:]]
    assert losses[0] == pytest.approx(0.693, abs=0.01), "the reference is the start"
    assert losses[-1] < 0.8 * losses[0]
    version, *_ = (row for row in listed(client, "/versions") if (row.get("lineage") or {}).get("job_id") == job.id)
    assert version["lineage"]["method"] == "dpo"
    content = client.get(f"/versions/{version['id']}/adapter", cast_to=openai.HttpxBinaryResponseContent).read()
    (tmp_path / "adapter.tar").write_bytes(content)
    with tarfile.open(tmp_path / "adapter.tar") as tar:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(tar.getnames())
    asked = client.chat.completions.create(
        model=ended.fine_tuned_model, messages=[{"role": "user", "content": "p 60"}], max_tokens=8
    )
    assert asked.choices[0].message.content is not None


def create(
    client: OpenAI, training: str, validation: str, metadata: dict[str, str] | None = None, **hyperparameters: float
) -> Any:
    return client.fine_tuning.jobs.create(
        model="small",
        training_file=training,
        validation_file=validation,
        method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}},
        metadata=metadata,
    )


def finished(client: OpenAI, job: str) -> Any:
    ends = time.monotonic() + 120
    while (row := client.fine_tuning.jobs.retrieve(job)).status not in {"succeeded", "failed"}:
        assert time.monotonic() < ends
        time.sleep(0.2)
    return row


def listed(client: OpenAI, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(path, cast_to=dict[str, Any])["data"]
    return found


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "_TABLE", list(methods._TABLE))
    monkeypatch.setattr(rows, "_KINDS", list(rows._KINDS))


def test_the_table_says_what_is_offered(table: None) -> None:
    from tests.extending.dpo import Dpo

    asked = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    with pytest.raises(InvalidRequest, match="'dpo' is not offered; use supervised or reinforcement"):
        methods.read_method(asked)
    with pytest.raises(InvalidRequest, match="the method dpo is not offered"):
        rows.parse_rows(json.dumps(preference(1)).encode(), "file", rows.DEMONSTRATION)
    methods.register(Dpo())
    assert methods.read_method(asked).stored() == asked
    with pytest.raises(InvalidRequest, match="use supervised or reinforcement or dpo"):
        methods.read_method({"type": "kto"})
    (row,) = rows.read_rows([json.dumps(preference(1)).encode()], "file")
    assert row.answers == ("abcab", "xyzxy")
    with pytest.raises(ValueError, match="already"):
        methods.register(Dpo())
