"""Ranges, methods and training rows that a fine-tuning request must satisfy."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from tests.gateway.tiny import tiny_model
from tests.store.bucket import BucketBlobs

from bessemer.core.errors import InvalidRequest, StoreError
from bessemer.core.openai import FineTuningJobRequest
from bessemer.core.settings import Settings
from bessemer.evals.grader import GraderServices
from bessemer.feedback.rows import TrainingRow
from bessemer.gateway.providers import SETTINGS
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import parse_config
from bessemer.store import files
from bessemer.store.database import Database
from bessemer.store.files import FileRow
from bessemer.tuning import lengths
from bessemer.tuning.checks import check_request
from bessemer.tuning.lengths import LengthCheck
from bessemer.tuning.methods import read_method

GRADER = {"type": "string_check", "name": "g", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}


def request(**fields: Any) -> FineTuningJobRequest:
    return msgspec.convert({"model": "m", "training_file": "file-1"} | fields, FineTuningJobRequest)


def test_no_method_means_supervised_with_the_deprecated_hyperparameters() -> None:
    asked = request(hyperparameters={"n_epochs": 3})
    method = read_method(asked.method, asked.hyperparameters)
    assert method.type == "supervised"
    assert method.body.hyperparameters.n_epochs == 3
    with pytest.raises(InvalidRequest) as caught:
        read_method(None, {"n_epoch": 3})
    assert (caught.value.param, caught.value.error_code) == ("hyperparameters.n_epoch", "unknown_parameter")


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("supervised", "n_epochs", 0),
        ("supervised", "n_epochs", 51),
        ("supervised", "batch_size", 257),
        ("supervised", "learning_rate_multiplier", 0),
        ("reinforcement", "compute_multiplier", 11),
        ("reinforcement", "compute_multiplier", 0.0),
        ("reinforcement", "eval_interval", 0),
        ("reinforcement", "eval_samples", 0),
        ("reinforcement", "eval_samples", 4),
        ("reinforcement", "reasoning_effort", "high"),
    ],
)
def test_a_hyperparameter_out_of_range_is_named(kind: str, name: str, value: float) -> None:
    body: dict[str, Any] = {"hyperparameters": {name: value}}
    if kind == "reinforcement":
        body["grader"] = GRADER
    with pytest.raises(InvalidRequest) as caught:
        read_method({"type": kind, kind: body})
    assert caught.value.param == f"method.{kind}.hyperparameters.{name}"


@pytest.mark.parametrize(
    ("method", "param"),
    [
        ({"type": "dpo", "dpo": {}}, "method.type"),
        ({"type": "reinforcement"}, "method.reinforcement"),
        (
            {"type": "reinforcement", "reinforcement": {"grader": GRADER, "response_format": {"type": "json_object"}}},
            "method.reinforcement.response_format",
        ),
        ({"type": "supervised", "reinforcement": {"grader": GRADER}}, "method.reinforcement"),
    ],
)
def test_a_method_needs_its_own_body_and_no_other(method: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_method(method)
    assert caught.value.param == param


CONFIG = """
[models.wide]
provider = "local"
path = "{path}"
context_tokens = 100000

[models.narrow]
provider = "local"
path = "{path}"
context_tokens = 400

[prompts.labels]
user = "{{{{input.text}}}}"
choices = ["{label}", "no"]

[prompts.free]
user = "{{{{input.text}}}}"
max_tokens = 100
"""


class Site(NamedTuple):
    database: Database
    blobs: BucketBlobs
    catalog: Catalog

    def create(self, model: str, rows: list[Any], method: str = "supervised", prompt: str | None = None) -> Any:
        content = "\n".join(map(json.dumps, rows)).encode()
        sha256 = self.blobs.put(content)
        row = FileRow(f"file-{time.time_ns()}", sha256, len(content), 1.0, "r", "fine-tune")
        files.insert(self.database, row)
        body: dict[str, Any] = {} if method == "supervised" else {"grader": GRADER}
        asked = request(
            model=model,
            training_file=row.id,
            method={"type": method, method: body},
            metadata=None if prompt is None else {"bessemer.prompt": prompt},
        )
        return check_request(asked, self.catalog, self.database, self.blobs, GraderServices())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was made for 512 tokens, each a byte."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def site(tmp_path: Path, path: Path) -> Iterator[Site]:
    database = Database.open(Settings(data=tmp_path))
    config = parse_config(CONFIG.format(path=path, label="y" * 120), tmp_path, SETTINGS)
    yield Site(database, BucketBlobs(), Catalog(config, database))
    database.close()


def row(question: int, answer: int | None) -> Any:
    """A row whose question and answer have so many bytes."""
    asked = {"role": "user", "content": "q" * question}
    return {"messages": [asked, *([] if answer is None else [{"role": "assistant", "content": "a" * answer}])]}


@pytest.mark.parametrize(
    ("model", "method", "prompt", "fits", "long"),
    [
        ("narrow", "supervised", None, row(200, 150), row(200, 200)),
        ("wide", "supervised", None, row(300, 150), row(300, 210)),
        ("narrow", "reinforcement", "free", row(260, None), row(300, None)),
        ("wide", "reinforcement", "free", row(370, None), row(420, None)),
        ("narrow", "reinforcement", "labels", row(240, None), row(290, None)),
        ("wide", "reinforcement", "labels", row(350, None), row(400, None)),
    ],
)
def test_a_row_that_is_longer_than_the_context_is_refused_when_the_job_is_created(
    site: Site, model: str, method: str, prompt: str | None, fits: Any, long: Any
) -> None:
    site.create(model, [fits] * 3, method, prompt)
    with pytest.raises(
        InvalidRequest, match=r"1 of 3 rows of the training_file .*\(row 2: \d\d\d\): shorten"
    ) as caught:
        site.create(model, [fits, long, fits], method, prompt)
    assert (caught.value.param, caught.value.error_code) == ("training_file", "no_rows_fit")


def test_a_file_that_was_changed_where_it_is_kept_makes_no_job(site: Site) -> None:
    site.create("wide", [row(10, 10)])
    [(key, content)] = site.blobs.bucket.objects.items()
    site.blobs.bucket.objects[key] = content.replace(b"aaaa", b"aaab")
    with pytest.raises(StoreError, match="damaged"):
        site.create("wide", [row(10, 10)])


def test_a_row_of_megabytes_is_not_counted(site: Site) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="row 1: "):
        site.create("wide", [row(12_000_000, 10)])
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("content", [None, b"", b"GGUF\x03\0\0\0", b"nonsense" * 100])
def test_a_model_that_cannot_be_read_is_left_to_who_loads_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    check = LengthCheck(path, 100, lambda _: 10, 10)
    rows = [TrainingRow(messages=({"role": "user", "content": "x" * 1000},), completion="y", item={}, number=1)]
    assert list(check.of(rows, "training_file")) == rows


def test_counting_ends_with_its_time_and_the_worker_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "_COUNTING_S", 1e-9)
    with pytest.raises(InvalidRequest, match=r"1 of 3 rows"):
        site.create("narrow", [row(400, 10)] * 3)


def test_the_api_process_checks_jobs_without_torch() -> None:
    """Importing it would hold up every other request for a second."""
    code = "import sys, bessemer.http.surface, bessemer.runtime.compose; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
