"""A time limit binds wherever a run spends its time: in a step, in a pass of the network, in an evaluation."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from tests.tuning.test_tuner import label_reward, length_reward, rows, spec_of, tuner

from bessemer.core.errors import TuningError
from bessemer.engine.engine import LoadedModel
from bessemer.tuning.watch import Watch


class SlowClock:
    """A clock that a reward moves: time passes where it would in a slow run, and nowhere else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)

        self.pass_s = 0.0
        """How long every pass of the network and every turn of the sampler takes."""

    def watch(self) -> Watch:
        return Watch(self._pass_time)

    def _pass_time(self) -> None:
        self.now += self.pass_s


@pytest.mark.parametrize("method", ["sft", "exact", "grpo"])
def test_a_time_limit_binds_inside_the_first_step(
    method: str, tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of 64 passes of 10 s; the limit is 100 s."""
    spec = msgspec.structs.replace(
        spec_of(method), batch_size=64, epochs=1, max_seconds=100.0, evaluations=0, tokens_per_pass=1
    )
    clock = SlowClock(monkeypatch)
    run = tuner(spec, tmp_path, model, length_reward if method == "grpo" else label_reward, rows(64), clock)
    clock.pass_s = 10.0
    with pytest.raises(TuningError, match="inside its first step") as raised:
        list(run.run())
    assert raised.value.error_code == "out_of_time"
    assert clock.now <= 120


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("method", ["sft", "exact"])
def test_a_time_limit_binds_inside_one_pass(
    method: str, way: str, tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are one pass; time goes by in its layers, forward or backward alone."""
    spec = msgspec.structs.replace(spec_of(method), batch_size=8, epochs=1, max_seconds=100.0, evaluations=0)
    clock = SlowClock(monkeypatch)
    run = tuner(spec, tmp_path, model, label_reward, rows(8), clock)
    backward = torch.Tensor.backward

    def later(*arguments: Any, **named: Any) -> None:
        clock.pass_s = 110.0
        backward(*arguments, **named)

    clock.pass_s = 110.0 if way == "forward" else 0.0
    monkeypatch.setattr(torch.Tensor, "backward", later)
    with pytest.raises(TuningError, match="inside its first step") as raised:
        run.step()
    assert raised.value.error_code == "out_of_time"
    assert clock.now <= 220


@pytest.mark.parametrize("method", ["sft", "exact", "grpo"])
def test_a_time_limit_binds_while_the_start_is_evaluated(
    method: str, tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SlowClock(monkeypatch)
    spec = msgspec.structs.replace(spec_of(method), max_seconds=100.0, tokens_per_pass=1)
    run = tuner(spec, tmp_path, model, length_reward if method == "grpo" else label_reward, clock=clock)
    clock.pass_s = 60.0
    with pytest.raises(TuningError, match="before the start was evaluated") as raised:
        run.begin()
    assert raised.value.error_code == "out_of_time"
    assert clock.now <= 180


@pytest.mark.parametrize("method", ["sft", "exact"])
def test_a_step_that_a_time_limit_ends_is_left_and_the_rest_is_kept(
    method: str, tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SlowClock(monkeypatch)
    spec = msgspec.structs.replace(spec_of(method), epochs=50, max_seconds=1000.0, tokens_per_pass=1)
    run = tuner(spec, tmp_path, model, label_reward if method == "exact" else None, clock=clock)
    clock.pass_s = 1.0
    for _ in range(5):
        run.step()
    adapter = run.backend.trainer.adapter.flat.clone()
    clock.pass_s = 400.0
    reports = list(run.run())
    assert "ended this step in its middle" in (reports[-1].note or "") or "last evaluation" in (reports[-1].note or "")
    assert torch.equal(run.backend.trainer.adapter.flat, adapter)
    assert run.best is not None
    assert clock.now <= 1000 + 2 * 401


def test_the_last_evaluation_has_its_time(tmp_path: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock(monkeypatch)
    spec = msgspec.structs.replace(spec_of("sft"), epochs=500, max_seconds=300.0, tokens_per_pass=1)
    run = tuner(spec, tmp_path, model, None, clock=clock)
    clock.pass_s = 5.0
    reports = list(run.run())
    assert reports[-1].validation is not None
    assert clock.now <= 310
