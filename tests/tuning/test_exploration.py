"""Exploration: what a sure model never draws is tried, and learned when it is rewarded."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch
from tests.tuning.conftest import local_tuner

from bessemer.core.errors import TuningError
from bessemer.core.types import JSON
from bessemer.engine.engine import LoadedModel
from bessemer.engine.network import Network
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.methods.grpo import GrpoSpec
from bessemer.tuning.spec import TuneSpec
from bessemer.tuning.tuner import Tuner

SURE = TuneSpec(
    base="tiny", method="sft", rank=4, alpha=8.0, epochs=30, batch_size=4, learning_rate=2e-2, evaluations=1
)
ROWS = [TrainingRow(messages=({"role": "user", "content": f"word {i}"},), completion="No", item={}) for i in range(12)]


def more_than_was_shown(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
    """Half for the answer that was demonstrated, all for one that goes on after it."""
    return [0.0 if not text.startswith("No") else 0.5 if text == "No" else 1.0 for _, text in answers]


@pytest.fixture
def model(model: LoadedModel) -> LoadedModel:
    """One that can be sure: with logits as large as those of a real model."""
    network = model.network
    return model._replace(network=Network(dataclasses.replace(network.weights, head=network.weights.head * 4)))


@pytest.fixture
def sure(model: LoadedModel, tmp_path: Path) -> Path:
    """An adapter that says "No", with hardly any doubt."""
    folder = tmp_path / "sure"
    run = local_tuner(SURE, ROWS, ROWS[:4], None, folder / "state", model=model)
    assert list(run.run())[-1].metrics["train_loss"] < 1e-3
    run.export(folder / "adapter")
    return folder / "adapter"


def test_a_sure_model_learns_what_it_would_never_have_drawn(sure: Path, tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(
        SURE,
        method="grpo",
        adapter=str(sure),
        own=GrpoSpec(samples_per_prompt=16),
        max_tokens=4,
        epochs=16,
        learning_rate=1e-2,
    )
    run = local_tuner(spec, ROWS, ROWS[:4], more_than_was_shown, tmp_path, model=model)
    reports = list(run.run())
    assert reports[0].metrics["reward_mixed_share"] == 0.0, "it draws one answer"
    assert reports[0].metrics["exploring"] == 0.0
    assert reports[1].metrics["exploring"] == 1.0
    assert run.best is not None
    assert run.best.mean_reward == 1.0


def test_to_explore_in_vain_ends_no_run_sooner(sure: Path, tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(
        SURE, method="grpo", adapter=str(sure), own=GrpoSpec(samples_per_prompt=2), max_tokens=4
    )
    run = local_tuner(spec, ROWS, [], lambda answers: [0.5] * len(answers), tmp_path, model=model)
    with pytest.raises(TuningError) as raised:
        list(run.run())
    assert raised.value.error_code == "learned_nothing"
    assert run.step_number == 13, "each of the twelve rows was explored once, in three steps; ten others were silent"


def test_groups_that_differ_are_no_reason_to_explore(tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(
        SURE, method="grpo", own=GrpoSpec(samples_per_prompt=4), max_tokens=6, epochs=2, evaluations=0
    )
    reward = lambda answers: [float(len(text)) for _, text in answers]  # noqa: E731
    run = local_tuner(spec, ROWS, [], reward, tmp_path, model=model)
    assert {report.metrics["exploring"] for report in run.run()} == {0.0}


def test_a_run_that_explores_continues_bit_for_bit(sure: Path, tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(
        SURE,
        method="grpo",
        adapter=str(sure),
        own=GrpoSpec(samples_per_prompt=8),
        max_tokens=4,
        epochs=2,
        learning_rate=1e-2,
    )

    def start(folder: str) -> Tuner:
        return local_tuner(spec, ROWS, [], more_than_was_shown, tmp_path / folder, model=model)

    whole = start("whole")
    assert {report.metrics["exploring"] for report in list(whole.run())} == {0.0, 1.0}
    stopped = start("stopped")
    stopped.step()
    stopped.save()
    again = start("stopped")
    assert again.step().metrics["exploring"] == 1.0
    list(again.run())
    assert torch.equal(again.backend.trainer.adapter.flat, whole.backend.trainer.adapter.flat)
