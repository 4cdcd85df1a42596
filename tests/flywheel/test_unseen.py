"""No version is judged on what it was trained on."""

import asyncio
import json
from pathlib import Path

import pytest

from bessemer.core.datasets import Example, Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.models import Lineage
from bessemer.core.settings import Settings
from bessemer.core.types import JobStatus
from bessemer.flywheel.unseen import unseen
from bessemer.registry.versions import make_version
from bessemer.runtime.compose import close_services, open_services
from bessemer.store import files, job_rows
from bessemer.store.files import FileRow
from bessemer.store.job_rows import JobRow

CONFIG = """
[models.small]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
"""


def example(text: object, number: int) -> Example:
    messages = ({"role": "user", "content": text},)
    return Example(id=f"row-{number}", split=Split.HOLDOUT, input=None, messages=messages, answer=None)


def lines(*questions: str) -> bytes:
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "a"}]} for text in questions
    ]
    return "\n".join(map(json.dumps, rows)).encode()


async def test_what_a_version_or_the_one_it_started_from_was_trained_on_is_left_out(tmp_path: Path) -> None:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    services = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    flywheel = services.flywheel

    def trained(base: str, *questions: str) -> str:
        lineage = Lineage(base=base, dataset_sha256=flywheel.blobs.put(lines(*questions)))
        return flywheel.catalog.register(make_version("small-tuned", lineage=lineage)).id

    first = trained(flywheel.catalog.resolve("small").version.id, "one")
    second = trained(first, "two")
    examples = [example("one", 1), example([{"type": "text", "text": "two"}], 2), example("three", 3)]
    assert [row.id for row in unseen(flywheel, ["small"], examples, Split.HOLDOUT)] == ["row-1", "row-2", "row-3"]
    assert [row.id for row in unseen(flywheel, ["small", first], examples, Split.HOLDOUT)] == ["row-2", "row-3"]
    assert [row.id for row in unseen(flywheel, [second], examples, Split.HOLDOUT)] == ["row-3"]
    with pytest.raises(InvalidRequest, match="trained on"):
        unseen(flywheel, [second], examples[:2], Split.HOLDOUT)
    await close_services(services)


async def test_what_a_version_was_chosen_by_decides_nothing_about_it(tmp_path: Path) -> None:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    services = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    flywheel = services.flywheel
    content = lines("one")
    row = FileRow(
        id="file-v",
        sha256=flywheel.blobs.put(content),
        bytes=len(content),
        created_at=1.0,
        filename="v.jsonl",
        purpose="fine-tune",
    )
    files.insert(flywheel.database, row)
    request = {"training_file": "file-t", "validation_file": "file-v"}
    job = JobRow(id="ftjob-1", kind="fine_tuning", request=request, status=JobStatus.SUCCEEDED, created_at=1.0)
    job_rows.insert(flywheel.database, job)
    base = flywheel.catalog.resolve("small").version.id
    lineage = Lineage(base=base, dataset_sha256=flywheel.blobs.put(lines("two")), job_id="ftjob-1")
    tuned = flywheel.catalog.register(make_version("small-tuned", lineage=lineage)).id
    examples = [example(text, number) for number, text in enumerate(("one", "two", "three"))]
    for split in (Split.HOLDOUT, Split.CALIBRATION):
        assert [row.id for row in unseen(flywheel, [tuned], examples, split)] == ["row-2"]
    assert [row.id for row in unseen(flywheel, [tuned], examples, Split.SELECTION)] == ["row-0", "row-2"]
    await close_services(services)
