"""Exploration: what a sure model never draws is tried, and learned when it is rewarded."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch

from bessemer.core.types import JSON
from bessemer.engine.engine import LoadedModel
from bessemer.engine.logits import exact_logits
from bessemer.engine.network import Network
from bessemer.tuning.head import likeliest, listed_logprobs
from bessemer.tuning.rows import Row
from bessemer.tuning.spec import TuneSpec
from bessemer.tuning.tuner import Tuner

SURE = TuneSpec(
    base="tiny", method="supervised", rank=4, alpha=8.0, epochs=30, batch_size=4, learning_rate=2e-2, evaluations=1
)
ROWS = [Row(messages=({"role": "user", "content": f"word {i}"},), completion="No", item={}) for i in range(12)]


def two_letters_that_no_one_showed(answers: Sequence[tuple[JSON, str]]) -> list[float | None]:
    """Half for the answer that was demonstrated, all for another one that begins as it does."""
    return [0.5 if text == "No" else 1.0 if len(text) == 2 and text[0] == "N" else 0.0 for _, text in answers]


@pytest.fixture
def model(model: LoadedModel) -> LoadedModel:
    """One that can be sure: with logits as large as those of a real model."""
    network = model.network
    return model._replace(network=Network(dataclasses.replace(network.weights, head=network.weights.head * 4)))


@pytest.fixture
def sure(model: LoadedModel, tmp_path: Path) -> Path:
    """An adapter that says "No", with hardly any doubt."""
    folder = tmp_path / "sure"
    run = Tuner(SURE, ROWS, ROWS[:4], None, folder / "state", model=model)
    assert list(run.run())[-1].metrics["train_loss"] < 1e-3
    run.export(folder / "adapter")
    return folder / "adapter"


def test_a_sure_model_learns_what_it_would_never_have_drawn(sure: Path, tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(
        SURE, method="grpo", adapter=str(sure), samples_per_prompt=8, max_tokens=4, epochs=12, learning_rate=1e-2
    )
    run = Tuner(spec, ROWS, ROWS[:4], two_letters_that_no_one_showed, tmp_path, model=model)
    reports = list(run.run())
    assert reports[0].metrics["reward_mixed_share"] == 0.0, "it draws one answer"
    assert reports[0].metrics["exploring"] == 0.0
    assert reports[1].metrics["exploring"] == 1.0
    assert run.best is not None
    assert run.best.mean_reward == 1.0


def test_groups_that_differ_are_no_reason_to_explore(tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(SURE, method="grpo", samples_per_prompt=4, max_tokens=6, epochs=2, evaluations=0)
    reward = lambda answers: [float(len(text)) for _, text in answers]  # noqa: E731
    run = Tuner(spec, ROWS, [], reward, tmp_path, model=model)
    assert {report.metrics["exploring"] for report in run.run()} == {0.0}


def test_a_run_that_explores_continues_bit_for_bit(sure: Path, tmp_path: Path, model: LoadedModel) -> None:
    spec = msgspec.structs.replace(
        SURE, method="grpo", adapter=str(sure), samples_per_prompt=8, max_tokens=4, epochs=2, learning_rate=1e-2
    )

    def start(folder: str) -> Tuner:
        return Tuner(spec, ROWS, [], two_letters_that_no_one_showed, tmp_path / folder, model=model)

    whole = start("whole")
    assert {report.metrics["exploring"] for report in list(whole.run())} == {0.0, 1.0}
    stopped = start("stopped")
    stopped.step()
    stopped.save()
    again = start("stopped")
    assert again.step().metrics["exploring"] == 1.0
    list(again.run())
    assert torch.equal(again.trainer.adapter.flat, whole.trainer.adapter.flat)


def test_the_policy_is_the_tempered_softmax_over_the_likeliest_tokens() -> None:
    rows, width, vocabulary, count, temperature = 6, 32, 300, 5, 2.0
    generator = torch.Generator().manual_seed(0)
    head_VH = torch.randn(vocabulary, width, generator=generator)
    hidden = torch.randn(rows, width, generator=generator)
    place = torch.arange(rows)
    logits = hidden @ head_VH.T
    best = logits.topk(count).indices
    listed = torch.arange(40)  # what a grammar left to the second row
    ids: list[torch.Tensor | None] = [None, listed, None, None, torch.tensor([3, 7]), None]
    token = best[:, 1].clone()
    token[1] = listed[logits[1, listed].topk(count).indices[-1]]
    token[4] = 7
    kept = likeliest(hidden, head_VH, place, token, ids, count)
    expected = [best[i] if own is None else own for i, own in enumerate(ids)]
    expected[1] = listed[logits[1, listed].topk(count).indices]
    for own, right in zip(kept, expected, strict=True):
        assert sorted(own.tolist()) == sorted(right.tolist())

    leaf, exact = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    logprob, _ = listed_logprobs(leaf, head_VH, place, token, kept, temperature)
    logprob.sum().backward()
    reference = torch.stack(
        [
            torch.log_softmax((exact[i] @ head_VH[own].T) / temperature, dim=-1)[(own == token[i]).nonzero()[0, 0]]
            for i, own in enumerate(expected)
        ]
    )
    reference.sum().backward()
    torch.testing.assert_close(logprob, reference, atol=1e-5, rtol=0)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, exact.grad, atol=1e-5, rtol=0)


def test_a_token_that_rounding_put_last_is_kept() -> None:
    head_VH = torch.eye(6)
    hidden = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    (kept,) = likeliest(hidden, head_VH, torch.tensor([0]), torch.tensor([3]), [None], 3)
    assert sorted(kept.tolist()) == [0, 1, 3]
    assert exact_logits(hidden, head_VH, torch.tensor([0]), kept[-1:]).tolist() == [2.0]
