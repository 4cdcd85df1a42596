"""The one loop of all methods: batches, learning rate, checks, evaluation, state on disk.

Every random choice is a function of (seed, place): the order of the rows of (seed, epoch), a sample of (seed, step,
row, k). The state therefore needs no generators; a run that is killed and started again continues bit for bit
(float32 on CPU) unless `max_seconds` ties its learning rate to the clock.
"""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from bessemer.core.errors import TuningError
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.backend import Adam, Backend
from bessemer.tuning.method import StepResult, TuningTask
from bessemer.tuning.methods import named
from bessemer.tuning.progress import (
    SILENCE,
    Start,
    TuningState,
    divergence,
    evaluation_budget,
    plan_looks,
    training_seconds,
    why_silent,
    with_loss,
)
from bessemer.tuning.rewards import ungraded
from bessemer.tuning.saved import RunFolder, Saved
from bessemer.tuning.selection import CheckpointScorer
from bessemer.tuning.spec import RewardFunction, StepReport, TuneSpec, Validation
from bessemer.tuning.watch import TimeUp, Watch

_PATIENCE = 10
"""Steps in a row without any gradient that are told; a run stops after as many, and an epoch's worth, at least."""
_SATURATED = "An epoch's worth of steps had nothing left to learn from: the run ends early, with its best checkpoint."
_SILENT = f"{_PATIENCE} steps in a row had nothing to learn from; the run looks through the rest of the epoch's rows."

_CUT = "The time limit ended this step in its middle: its rows are left out, and the run ends."
_UNFINISHED = "The time limit ended the last evaluation: the best checkpoint that was evaluated before it is kept."

_PROBED_ROWS = 16
"""Validation rows that tell how long one takes."""
_LENIENCE = 1.5
"""The last evaluation may take as many times as long as the longest before it, whatever is left of a time limit."""
_STATE, _START, _BEST = "state", "start", "best"
"""Files of a run."""


class Tuner:
    """A tuning run that can be left and taken up again after any step."""

    def __init__(
        self,
        spec: TuneSpec,
        train: Sequence[TrainingRow],
        validation: Sequence[TrainingRow],
        reward: RewardFunction | None,
        state_dir: Path,
        backend: Backend,
        judge: CheckpointScorer | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Begin a run on a backend with fresh weights, or continue from `state_dir` if it holds a state.

        `judge` turns an evaluation into the score that checkpoints are chosen by; default: its own. `watch` is called
        often inside a step, by the backend, too; what it raises breaks the step off, after which only the saved state
        may be continued.
        """
        if not train:
            raise TuningError("There are no training rows.", code="no_rows_fit")
        if spec.threads is not None:
            torch.set_num_threads(spec.threads)
        self.spec = spec
        self._watch = watch or Watch()
        self._judge = judge or CheckpointScorer()
        self.backend = backend
        self.method = named(spec.method)
        self._batch_size = spec.batch_size or self.method.prompts_per_step
        self._peak_rate = self.method.learning_rate if spec.learning_rate is None else spec.learning_rate
        self._task = TuningTask(spec, backend, train, validation, reward, self._watch)
        self._learner = self.method.learner(self._task)
        self._folder = RunFolder(state_dir)
        self._progress = TuningState()
        self._saved_at = time.monotonic()
        self.best: Validation | None = None
        self.start: Start | None = None
        self.total_steps = max(1, -(-round(spec.epochs * len(train)) // self._batch_size))
        self._order = self._shuffled()
        self._good = self._state()
        if (start := self._folder.read(_START)) is not None:
            self.start = msgspec.json.decode(start.note, type=Start)
            self._resume_best()
        if (state := self._folder.read(_STATE)) is not None:
            self._resume(state)

    # -- the run ------------------------------------------------------------------------------------------------------

    @property
    def step_number(self) -> int:
        """Optimizer steps done."""
        return self._progress.step

    @property
    def done(self) -> bool:
        """All steps are done, or the time is used up, and the last evaluation is made."""
        return self._progress.finished

    @property
    def share_done(self) -> float:
        """Share of the run behind it, by epochs or by training time, whichever is further."""
        by_time = self._progress.seconds / training_seconds(self.spec, self.start)
        return min(1.0, max(self._share_of_epochs(), by_time))

    @property
    def seconds(self) -> float:
        """Spent in steps and evaluations, over all restarts."""
        return self._progress.seconds + self._progress.evaluation_seconds

    @property
    def seconds_left(self) -> float | None:
        """How long the run still takes at its pace: until its rows or its time are used up. None before any step."""
        progress, share = self._progress, self._share_of_epochs()
        if progress.finished:
            return 0.0
        if not progress.seconds or not share:
            return self.spec.max_seconds
        left = progress.seconds * (1 - share) / share
        left = max(0.0, min(left, training_seconds(self.spec, self.start) - progress.seconds))
        if self.start is not None:
            left += self.start.seconds * max(0, self.start.evaluations - progress.evaluated)
        return left if self.spec.max_seconds is None else min(left, max(0.0, self.spec.max_seconds - self.seconds))

    @property
    def looks(self) -> int:
        """Checkpoints that were evaluated, the start left out."""
        return self._progress.evaluated

    def _share_of_epochs(self) -> float:
        progress = self._progress
        inside = progress.cursor / self._epoch_end() * min(1.0, self.spec.epochs - progress.epoch)
        return (progress.epoch + inside) / self.spec.epochs

    def run(self) -> Iterator[StepReport]:
        """Yield a report per step until the run is done."""
        while not self.done:
            yield self.step()

    def step(self) -> StepReport:
        """Do one optimizer step; evaluate when due; save when due.

        A step that a time limit ends in its middle is the last one: what it has of a gradient is left.
        Raises TuningError with the codes nan_loss, diverged, learned_nothing, out_of_time, policy_mismatch, or a
        grader's own.
        """
        if self.done:
            raise TuningError("The run is done.", code="done")
        self.begin()
        started, tokens = time.monotonic(), self.backend.trained_tokens
        rate, cut = self._learning_rate(), False
        try:
            with self._watch.within(self._training_seconds_left()):
                outcome = self._learner.accumulate(self._batch(), self._progress.step)
        except TimeUp:
            outcome, cut = self._out_of_time(tokens), True
        norm = 0.0 if cut else self._update(outcome, rate)
        seconds = time.monotonic() - started
        self._progress.step += 1
        self._progress.seconds += seconds
        metrics = {
            **outcome.metrics,
            "grad_norm": norm,
            "learning_rate": rate,
            "tokens": float(self.backend.trained_tokens - tokens),
            "tokens_per_s": (self.backend.trained_tokens - tokens) / seconds,
            "step_seconds": seconds,
        }
        if not cut:
            self._note_loss(outcome)
        saturated = self._progress.silent >= self._patience()
        ending = cut or saturated or self.share_done >= 1.0 or self._training_seconds_left() <= 0
        validation = self._evaluate_if_due(ending=ending)
        apart = self._check_divergence(validation)
        self._progress.finished = ending or apart is not None
        if saturated:
            self.require_learned()
        saved = self.done or validation is not None or time.monotonic() - self._saved_at >= self.spec.checkpoint_every_s
        if saved:
            self.save()
        return StepReport(
            step=self._progress.step,
            total_steps=self._progress.step if self.done else self._expected_steps(),
            metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
            validation=validation,
            saved=saved,
            note=apart or (_SATURATED if saturated else self._note(validation, cut=cut, ending=ending)),
        )

    def require_learned(self) -> None:
        """Raise TuningError (learned_nothing) when no step had anything to learn from: there is nothing to register."""
        progress = self._progress
        if progress.learned:
            return
        found, remedy = why_silent(progress)
        raise TuningError(
            f"None of {progress.step} steps had anything to learn from: {found}. No version was made; {remedy}.",
            code="learned_nothing",
        )

    def _training_seconds_left(self) -> float:
        """Return what a time limit leaves for steps: the time of one more evaluation is kept for the last one."""
        limit, progress = self.spec.max_seconds, self._progress
        if limit is None:
            return math.inf
        return min(
            training_seconds(self.spec, self.start) - progress.seconds,
            limit - self.seconds - self._longest_evaluation,
        )

    @property
    def _longest_evaluation(self) -> float:
        return max(self._progress.longest_evaluation, 0.0 if self.start is None else self.start.seconds)

    def _out_of_time(self, tokens: int) -> StepResult:
        """Take back what a step did that a time limit ended. Raises TuningError (out_of_time) when it was the first."""
        self.backend.zero_grad()
        self.backend.trained_tokens = tokens
        if not self._progress.step:
            raise TuningError(
                f"The time limit, {self.spec.max_seconds:g} seconds ({self._progress.evaluation_seconds:.0f} went to "
                "evaluating the start), ended the run inside its first step. No version was made; raise "
                "bessemer.max_seconds, lower batch_size, or shorten the rows.",
                code="out_of_time",
            )
        return StepResult({}, signal=False)

    def _note(self, validation: Validation | None, *, cut: bool, ending: bool) -> str | None:
        if ending and validation is None and self.start is not None:
            return _UNFINISHED
        if cut:
            return _CUT
        if validation is not None and validation.score is None:
            why = f" ({validation.failure.message})" if validation.failure else ""
            return f"No answer on the validation rows could be scored{why}: this checkpoint cannot be chosen."
        return _SILENT if self._progress.silent == _PATIENCE < self._patience() else None

    def _patience(self) -> int:
        """Return after how many steps in a row without a signal a run ends: an epoch's worth, so that all rows had one.

        Where one group in thirty differs, ten steps of eight are silent now and then whatever there is to learn.
        """
        return max(_PATIENCE, -(-len(self._order) // self._batch_size))

    def begin(self) -> Start | None:
        """Evaluate the model that the run starts from, unless that is done; None without validation rows.

        What a run makes must beat its start on these rows, or the start is given back as it was. Raises TuningError
        with the grader's own code when it fails on most of them, out_of_time when a time limit ends before.
        """
        count = len(self._task.validation)
        if self.start is not None or self._progress.step or not count or not self.spec.evaluations:
            return self.start
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.spec.seed)).tolist()
        looks, probed = plan_looks(count, self.spec.evaluations, math.inf), sorted(order[:_PROBED_ROWS])
        budget = evaluation_budget(self.spec)
        try:
            if budget < math.inf:
                pace = self._timed(probed)[1] / len(probed)
                looks = plan_looks(count, self.spec.evaluations, max(0.0, budget / pace - len(probed)))
            rows = tuple(sorted(order[: looks.rows]))
            validation, seconds = self._timed(rows)
        except TimeUp:
            raise TuningError(
                f"The time limit, {self.spec.max_seconds:g} seconds, ended before the start was evaluated. No version "
                "was made; raise bessemer.max_seconds, or give fewer or shorter validation rows.",
                code="out_of_time",
            ) from None
        if validation.failure is not None and validation.score is None:
            raise ungraded(validation.failure, 1.0)
        self.start = Start(validation=validation, rows=rows, evaluations=looks.evaluations, seconds=seconds)
        self._keep_best(validation)
        self._folder.write(_START, {}, msgspec.json.encode(self.start))
        return self.start

    def evaluate(self) -> Validation:
        """Score the validation rows with the adapter as it is, by the selection score. Raises TimeUp."""
        validation, seconds = self._timed(range(len(self._task.validation)) if self.start is None else self.start.rows)
        self._progress.longest_evaluation = max(self._progress.longest_evaluation, seconds)
        return validation

    def _timed(self, rows: Sequence[int]) -> tuple[Validation, float]:
        started, limit = time.monotonic(), self.spec.max_seconds
        left = math.inf if limit is None else limit - self.seconds
        try:
            with self._watch.within(max(left, _LENIENCE * self._longest_evaluation)):
                validation = self._learner.validate(self._progress.step, rows)
        finally:
            seconds = time.monotonic() - started
            self._progress.evaluation_seconds += seconds
        score = self._judge.score(validation)
        score = score if score is not None and math.isfinite(score) else None
        return msgspec.structs.replace(validation, score=score), seconds

    def export(self, folder: Path) -> None:
        """Write the best adapter that was evaluated, or the current one when none was, in peft's format."""
        best = None if self.best is None else self._folder.read(_BEST)
        self.backend.export(folder, None if best is None else best.tensors)

    def save(self) -> None:
        """Write the state; a process killed meanwhile leaves the previous one."""
        self._good = self._state()
        self._folder.write(_STATE, self._good, msgspec.json.encode(self._progress))
        self._saved_at = time.monotonic()

    # -- parts --------------------------------------------------------------------------------------------------------

    def _batch(self) -> list[int]:
        """Rows of the next step. Epochs follow each other without a gap; each leaves out most of what is solved."""
        progress = self._progress
        rows: list[int] = []
        while len(rows) < self._batch_size and progress.epoch < self.spec.epochs:
            stop = self._epoch_end()
            taken = self._order[progress.cursor : min(stop, progress.cursor + self._batch_size - len(rows))].tolist()
            rows += taken
            progress.cursor += len(taken)
            if progress.cursor >= stop:
                progress.epoch += 1
                progress.cursor = 0
                self._order = self._shuffled()
        return rows

    def _epoch_end(self) -> int:
        """Return how many rows of the epoch's order are used: all, or a part of a last fractional epoch."""
        share = min(1.0, self.spec.epochs - self._progress.epoch)
        return max(1, round(share * len(self._order)))

    def _shuffled(self) -> Tensor:
        """Return an epoch's rows in random order; solved ones come back with a probability of `revisit`."""
        count, epoch = len(self._task.train), self._progress.epoch
        generator = torch.Generator().manual_seed(self.spec.seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=generator)
        again = torch.rand(count, generator=generator) < self.spec.revisit
        kept = order[(again | ~self._learner.solved())[order]]
        return kept if len(kept) else order

    def _learning_rate(self) -> float:
        """Linear warm-up, then linear decay to zero, both by the share of the run: a time limit shortens both."""
        spec = self.spec
        warm = min(1.0, max(self.share_done, 1.0 / self.total_steps) / spec.warmup) if spec.warmup else 1.0
        left = (1.0 - self.share_done) / max(1e-9, 1.0 - spec.warmup)
        return self._peak_rate * self._progress.rate_factor * min(warm, left)

    def _update(self, outcome: StepResult, rate: float) -> float:
        progress = self._progress
        if outcome.signal or not outcome.explored:  # to have found nothing beyond says nothing of what is left here
            progress.silent = 0 if outcome.signal else progress.silent + 1
        progress.learned = progress.learned or outcome.signal
        for name in SILENCE & outcome.metrics.keys():
            progress.seen[name] = progress.seen.get(name, 0.0) + outcome.metrics[name]
        if not outcome.signal:
            self.backend.zero_grad()
            return 0.0
        norm = self.backend.gradient_norm()
        if not (torch.isfinite(torch.tensor([norm, outcome.metrics["train_loss"]])).all()):
            self._roll_back()
            return 0.0
        spec = self.spec
        return self.backend.optim_step(
            Adam(rate, beta1=spec.beta1, beta2=spec.beta2, weight_decay=spec.weight_decay, clip_norm=spec.clip_norm)
        )

    def _roll_back(self) -> None:
        if self._progress.rolled_back:
            raise TuningError(
                "Loss or gradient was not finite twice, the second time at half the learning rate: lower "
                "learning_rate_multiplier.",
                code="nan_loss",
            )
        tokens = self.backend.trained_tokens
        self.backend.load_state(self._good)
        self.backend.trained_tokens = tokens  # what was computed stays computed
        self._progress.rolled_back = True
        self._progress.rate_factor /= 2

    def _evaluate_if_due(self, *, ending: bool) -> Validation | None:
        evaluations = self.spec.evaluations if self.start is None else self.start.evaluations
        due = evaluations if ending else int(self.share_done * evaluations + 1e-9)
        if due <= self._progress.evaluated or not self._task.validation:
            return None
        self._progress.evaluated = due
        if not ending and self._progress.evaluation_seconds > evaluation_budget(self.spec):
            return None  # it takes longer than it did at the start: the last one is left
        try:
            validation = self.evaluate()
        except TimeUp:
            return None
        self._keep_best(validation)
        return validation

    def _expected_steps(self) -> int:
        """Return after how many steps the run ends, by what binds: its rows or its time."""
        return max(self._progress.step, round(self._progress.step / max(self.share_done, 1e-9)))

    def _note_loss(self, outcome: StepResult) -> None:
        loss = outcome.metrics["train_loss"]
        if self.method.likelihood and outcome.signal and math.isfinite(loss):
            self._progress.losses = with_loss(self._progress.losses, loss)

    def _check_divergence(self, validation: Validation | None) -> str | None:
        """Return what to tell when demonstrations became far less likely than at the start, and the run must end.

        The best checkpoint is kept if it is better than the start. Raises TuningError (diverged) if none is.
        """
        if not self.method.likelihood:
            return None  # the loss of a few confident mistakes may rise while rewards do, too; the start is kept
        start = None if self.start is None else self.start.validation
        found = divergence(validation, start, self._progress.losses)
        if found is None:
            return None
        if self.best is None or self.best.step == 0:
            raise TuningError(
                f"{found}: the run diverged, and no version was made. Lower learning_rate_multiplier.", code="diverged"
            )
        return f"{found}: the run diverged and ends with its best checkpoint, of step {self.best.step}."

    def _keep_best(self, validation: Validation) -> None:
        if validation.score is None:
            return
        if self.best is None or self.best.score is None or validation.score > self.best.score:
            self.best = validation
            self._folder.write(_BEST, self.backend.save_weights(), msgspec.json.encode(validation))

    # -- state --------------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor]:
        method = {f"method.{name}": tensor for name, tensor in self._learner.state().items()}
        return self.backend.save_state() | method | {"order": self._order.clone()}

    def _resume(self, state: Saved) -> None:
        tensors = state.tensors
        self._progress = msgspec.json.decode(state.note, type=TuningState)
        self.backend.load_state(tensors)
        learner = {n.removeprefix("method."): t for n, t in tensors.items() if n.startswith("method.")}
        self._learner.load_state(learner)
        self._order = tensors["order"]
        self._good = tensors
        self._resume_best()

    def _resume_best(self) -> None:
        if (saved := self._folder.read(_BEST)) is not None:
            best = msgspec.json.decode(saved.note, type=Validation)
            # One that a killed process found after its last saved step will be found again.
            self.best = best if best.step <= self._progress.step else None
