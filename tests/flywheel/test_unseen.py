"""No version is judged on what it was trained on."""

import asyncio
import json
from pathlib import Path

import pytest

from bessemer.core.errors import InvalidRequest
from bessemer.core.settings import Settings
from bessemer.core.types import Example, Lineage, Split
from bessemer.flywheel.unseen import unseen
from bessemer.registry.versions import make_version
from bessemer.server.compose import close_services, open_services

CONFIG = """
[models.small]
provider = "openai"
base_url = "http://127.0.0.1:9/v1"
"""


def example(text: object, number: int) -> Example:
    messages = ({"role": "user", "content": text},)
    return Example(id=f"row-{number}", split=Split.HOLDOUT, input=None, messages=messages, answer=None)


async def test_what_a_version_or_the_one_it_started_from_was_trained_on_is_left_out(tmp_path: Path) -> None:
    config = tmp_path / "bessemer.toml"
    config.write_text(CONFIG)
    services = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
    flywheel = services.flywheel

    def trained(base: str, *questions: str) -> str:
        rows = [
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "a"}]}
            for text in questions
        ]
        sha256 = flywheel.blobs.put("\n".join(map(json.dumps, rows)).encode())
        lineage = Lineage(base=base, dataset_sha256=sha256)
        return flywheel.catalog.register(make_version("small-tuned", lineage=lineage)).id

    first = trained(flywheel.catalog.resolve("small").version.id, "one")
    second = trained(first, "two")
    examples = [example("one", 1), example([{"type": "text", "text": "two"}], 2), example("three", 3)]
    assert [row.id for row in unseen(flywheel, ["small"], examples)] == ["row-1", "row-2", "row-3"]
    assert [row.id for row in unseen(flywheel, ["small", first], examples)] == ["row-2", "row-3"]
    assert [row.id for row in unseen(flywheel, [second], examples)] == ["row-3"]
    with pytest.raises(InvalidRequest, match="trained on"):
        unseen(flywheel, [second], examples[:2])
    await close_services(services)
