"""Datasets of an uploaded file."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.store.bucket import BucketBlobs

from bessemer.core.datasets import Dataset, Split
from bessemer.core.errors import InvalidRequest, NotFound, StoreError
from bessemer.core.wire import DatasetRequest
from bessemer.evals.measures import item_of
from bessemer.feedback.datasets import load
from bessemer.feedback.imports import build_from_file
from bessemer.feedback.rows import DEMONSTRATION, QUESTION, parse_rows
from bessemer.store import files
from bessemer.store.blob_folder import BlobFolder
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.files import FileRow


class Importer:
    """Uploads rows and imports them."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self.database, self.blobs = database, blobs

    def __call__(self, rows: list[Any], **options: Any) -> Dataset:
        content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        sha256 = self.blobs.put(content)
        row = FileRow(
            id="file-1", sha256=sha256, bytes=len(content), created_at=0.0, filename="f.jsonl", purpose="fine-tune"
        )
        files.insert(self.database, row)
        request = DatasetRequest(name="mine", file_id="file-1", **options)
        return build_from_file(self.database, self.blobs, request, code_commit=None, now=1.0, key_id="key-1")


@pytest.fixture(params=["folder", "bucket"])
def importer(request: pytest.FixtureRequest, sqlite_database: Database, tmp_path: Path) -> Importer:
    blobs = BlobFolder(tmp_path / "blobs") if request.param == "folder" else BucketBlobs()
    return Importer(sqlite_database, blobs)


def ask(text: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def test_every_input_is_in_one_split_and_its_file_can_be_trained_on(importer: Importer) -> None:
    rows = [ask(f"question {i}", reference_answer=f"answer {i}", level=i) for i in range(100)]
    spelt = [ask([{"type": "text", "text": f"question {i}"}], reference_answer="other") for i in range(10)]
    dataset = importer([*rows, *spelt], splits={Split.TRAIN: 0.5, Split.HOLDOUT: 0.5})
    examples = load(importer.blobs, dataset)
    assert len(examples) == 100
    assert dataset.provenance["excluded"] == {"contradictions": 10, "same_input": 10}
    assert dataset.provenance["built_by"] == "key-1"
    assert all(example.demonstration == f"answer {example.item['level']}" for example in examples)
    assert item_of(examples[3])["level"] == examples[3].item["level"]
    for split, file_id in dataset.files.items():
        content = importer.blobs.read(files.get(importer.database, file_id).sha256)
        assert len(parse_rows(content, "file", QUESTION)) == dataset.counts[split]


def test_a_row_may_name_its_split_and_a_bad_one_is_set_aside(importer: Importer) -> None:
    rows = [ask("a", split="holdout"), ask("b", split="test"), ask("c")]
    dataset = importer(rows, splits={Split.TRAIN: 1.0})
    assert dataset.counts["holdout"] == dataset.counts["train"] == 1
    assert "splits are" in dataset.provenance["quarantined"]["row-2"]


def test_demonstrations_keep_their_masks(importer: Importer) -> None:
    turns = [("user", "q"), ("assistant", "masked"), ("user", "r"), ("assistant", "taught"), ("user", "s")]
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    messages[1]["weight"] = 0
    row = {"messages": [*messages, {"role": "assistant", "content": "last"}]}
    dataset = importer([row], splits={Split.TRAIN: 1.0})
    [example] = load(importer.blobs, dataset)
    assert (example.demonstration, len(example.messages)) == ("last", 5)
    content = importer.blobs.read(files.get(importer.database, dataset.files["train"]).sha256)
    [again] = parse_rows(content, "file", DEMONSTRATION)
    [before] = parse_rows(json.dumps(row).encode(), "file", DEMONSTRATION)
    assert (again.messages, again.taught, again.completion) == (before.messages, before.taught, before.completion)


def test_what_selects_inferences_is_refused_and_an_unknown_file_is_named(importer: Importer) -> None:
    with pytest.raises(InvalidRequest, match="`route` selects inferences"):
        importer([ask("a")], route="match")
    request = DatasetRequest(name="x", file_id="file-9")
    with pytest.raises(NotFound, match="file-9"):
        build_from_file(importer.database, importer.blobs, request, code_commit=None, now=1.0, key_id=None)


def test_a_file_that_was_changed_on_disk_is_no_dataset(sqlite_database: Database, tmp_path: Path) -> None:
    importer = Importer(sqlite_database, BlobFolder(tmp_path / "blobs"))
    importer([ask("question", reference_answer="yes")])
    sha256 = files.get(sqlite_database, "file-1").sha256
    blob = tmp_path / "blobs" / sha256[:2] / sha256
    blob.write_bytes(blob.read_bytes().replace(b"yes", b"no!"))
    request = DatasetRequest(name="again", file_id="file-1")
    with pytest.raises(StoreError, match="damaged"):
        build_from_file(sqlite_database, importer.blobs, request, code_commit=None, now=1.0, key_id="key-1")
