"""What a job resolves before it trains, and what its version takes from it."""

from pathlib import Path

import pytest
from tests.gateway.tiny import tiny_model

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON
from bessemer.registry.catalog import Catalog
from bessemer.registry.config import load_config
from bessemer.store import files
from bessemer.store.database import Database
from bessemer.store.files import FileRow
from bessemer.store.job_rows import JobKind, JobRow, JobStatus
from bessemer.tuning.preparation import prepare, tuned_version

CONFIG = """
[models.small]
provider = "local"
path = "{path}"
price = "none"

[prices.none]
source = "a test"
date = "2026-01-01"
per_hour = 0.0

[prompts.extract]
user = "{{{{input.title}}}}"
grammar = "start: /[a-z]+/"

[prompts.decide]
user = "{{{{input.title}}}}"
choices = ["Yes", "No"]
"""


@pytest.fixture
def catalog(tmp_path: Path, sqlite_database: Database) -> Catalog:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG.format(path=tiny_model(tmp_path / "tiny")))
    row = FileRow(id="file-1", sha256="0" * 64, bytes=1, created_at=1.0, filename="a.jsonl", purpose="fine-tune")
    files.insert(sqlite_database, row)
    return Catalog(load_config(config, tmp_path), sqlite_database)


def job(**metadata: str) -> JobRow:
    named: JSON = {f"bessemer.{key}": value for key, value in metadata.items()}
    request = {"model": "small", "training_file": "file-1", "method": {"type": "supervised"}, "metadata": named}
    return JobRow(id="ftjob-1", kind=JobKind.FINE_TUNING, request=request, status=JobStatus.QUEUED, created_at=1.0)


def test_the_version_answers_with_as_many_samples_as_its_job_said(catalog: Catalog, sqlite_database: Database) -> None:
    row = job(prompt="extract", answer_samples="8")
    plan = prepare(row, catalog, sqlite_database)
    version = tuned_version(plan, row, "a" * 64, choice_bias=(), field_threshold=0.0, code_commit=None)
    assert (version.answer_samples, version.prompt) == (8, "extract")
    one = job(prompt="extract")
    plain = tuned_version(
        prepare(one, catalog, sqlite_database), one, "a" * 64, choice_bias=(), field_threshold=0.0, code_commit=None
    )
    assert plain.answer_samples == 1
    assert plain.id != version.id


@pytest.mark.parametrize("prompt", ["decide", None])
def test_samples_of_what_has_no_fields_are_refused(
    catalog: Catalog, sqlite_database: Database, prompt: str | None
) -> None:
    chosen = {} if prompt is None else {"prompt": prompt}
    with pytest.raises(InvalidRequest, match="answer_samples needs JSON answers") as caught:
        prepare(job(answer_samples="8", **chosen), catalog, sqlite_database)
    assert caught.value.param == "metadata"
