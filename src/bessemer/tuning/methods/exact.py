"""The exact expected reward of answers that can be enumerated: all of them are scored in one pass, none is sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from bessemer.core.errors import InvalidRequest
from bessemer.core.lazy import Lazy
from bessemer.engine.tokens import Tokens
from bessemer.feedback.rows import TrainingRow
from bessemer.tuning.backend import Scored, Tree
from bessemer.tuning.losses import completed, expected_reward_loss
from bessemer.tuning.method import StepResult, TuningTask, prompt_ids
from bessemer.tuning.options import Options
from bessemer.tuning.reinforcement import Reinforcement
from bessemer.tuning.rewards import ChoiceRewards, Rewards, numbers, reward_metrics, varying
from bessemer.tuning.selection import CheckpointScorer, F1Scorer
from bessemer.tuning.spec import MethodSpec, Validation

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")


class ExactSpec(MethodSpec, frozen=True):
    """What the method alone goes by."""

    objective: Literal["reward", "log_reward"] = "log_reward"
    """Maximise J, the expected reward, or log J, whose gradient stays when the model is confidently wrong."""


class Exact(Reinforcement):
    """OpenAI's `reinforcement` where a prompt or version names the choices."""

    name = "exact"
    options = frozenset({"metric", "positive", "objective"})
    needs = "a prompt or version with choices"
    prompts_per_step = 16
    """It learns from one decision of each, others from every token of an answer."""

    def suits(self, choices: Sequence[str]) -> bool:
        """See `Method`."""
        return bool(choices)

    def check_answers(self, options: Options) -> None:
        """See `Method`."""
        if options.field_threshold == "auto":
            raise InvalidRequest(
                "bessemer.field_threshold auto needs JSON answers, and this job's are choices; leave it out.",
                param="metadata",
            )

    def configure(self, hyperparameters: Any, options: Options) -> ExactSpec:
        """See `Method`."""
        del hyperparameters
        return ExactSpec(objective=options.objective)

    def answer_room(self, tokens: Tokens, choices: Sequence[str], max_tokens: int) -> int:
        """See `Method`: the longest choice."""
        del max_tokens
        return max(len(tokens.encode_completion(choice)) for choice in choices)

    def judge(self, options: Options, choices: Sequence[str]) -> CheckpointScorer:
        """See `Method`."""
        return CheckpointScorer() if options.metric != "f1" else F1Scorer(tuple(choices), options.positive)

    def learner(self, task: TuningTask) -> ExactLearner:
        """See `Method`."""
        return ExactLearner(task)


class ExactLearner:
    """Expected reward of an enumerable answer and its exact gradient: all choices scored in one pass, none sampled.

    p = softmax over the choices of their log-probabilities, terminator included; J = sum p r.
    """

    def __init__(self, task: TuningTask) -> None:
        if task.reward is None or len(task.spec.choices) < 2:
            raise InvalidRequest("The exact method needs a grader and at least two choices.", param="method")
        self._task, self._own = task, task.own(ExactSpec)
        self._reward = task.reward
        self._train = self._trees(task.train, "training_file")
        self._validation = self._trees(task.validation, "validation_file")
        shape = len(task.spec.choices)
        self._solved = torch.zeros(len(task.train), dtype=torch.bool)
        self._train_rewards = ChoiceRewards(torch.full((len(task.train), shape), float("nan")))
        self._validation_rewards = ChoiceRewards(torch.full((len(task.validation), shape), float("nan")))

    def accumulate(self, indices: Sequence[int], step: int) -> StepResult:
        """See `Learner`."""
        del step
        spec, rows, known = self._task.spec, self._task.train, self._train_rewards
        graded = known.of(indices, rows, spec.choices, self._reward)
        graded.check(spec.max_failures)
        metrics = reward_metrics(*graded[:2])
        reward_RK = completed(graded.reward, known.lowest, known.highest)
        used = varying(reward_RK)
        weights = torch.tensor([rows[i].weight for i in indices])[used]
        total = float(weights.sum())
        kept = [i for i, use in zip(indices, used.tolist(), strict=True) if use]
        if not kept or total == 0:
            return StepResult({**metrics, "train_loss": 0.0}, signal=False)
        rewards, given = reward_RK[used], graded.reward[used]
        expected, certain, right = torch.zeros(3, len(kept))

        def loss(scored: Scored) -> Tensor:
            at = torch.tensor(scored.trees)
            logprob_RK = scored.branch_sums().view(len(at), -1)
            loss_R, expected[at] = expected_reward_loss(
                logprob_RK,
                rewards[at],
                logarithm=self._own.objective == "log_reward",
                lowest=known.lowest,
                highest=known.highest,
            )
            certain[at] = (logprob_RK.detach().softmax(-1) * given[at].nan_to_num(known.lowest)).sum(-1)
            picked = given[at].gather(1, logprob_RK.detach().argmax(-1, keepdim=True)).squeeze(1)
            right[at] = (picked >= rewards[at].nan_to_num(-torch.inf).amax(1)).float()  # an unknown one is not right
            return (loss_R * weights[at]).sum() / total

        value = self._task.backend.forward_backward([self._train[i] for i in kept], loss)
        highest, lowest = rewards.nan_to_num(-torch.inf).amax(1), rewards.nan_to_num(known.lowest).amin(1)
        self._solved[kept] = expected - lowest >= spec.solved_at * (highest - lowest)
        metrics |= {
            "solved_share": float(self._solved.float().mean()),
            "train_loss": value,
            "reward_mean": float((certain * weights).sum() / total),
            "train_mean_token_accuracy": float(right.mean()),
        }
        return StepResult(metrics, signal=True)

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        """See `Learner`."""
        choices = self._task.spec.choices
        branches = self._task.backend.score([self._validation[i] for i in rows])
        logprobs = torch.tensor([[float(part.sum()) for part in row] for row in branches]).view(-1, len(choices))
        known = self._validation_rewards
        graded = known.of(rows, self._task.validation, choices, self._reward)
        loss, _ = expected_reward_loss(
            logprobs, graded.reward, logarithm=True, lowest=known.lowest, highest=known.highest
        )
        best = logprobs.argmax(1, keepdim=True)
        picked, low, high = self._picked(graded, best)
        scorable = picked.isfinite()
        some = bool(scorable.any())
        mean = float(picked[scorable].mean()) if some else None
        return Validation(
            step=step,
            score=mean,
            loss=float(loss.mean()) if some else None,
            mean_reward=mean,
            reward_bounds=(float(low[scorable].mean()), float(high[scorable].mean())) if some else None,
            unknown=int((graded.reward.gather(1, best).isnan() & ~graded.failed.gather(1, best)).sum()),
            row_scores=numbers(picked),
            failure=graded.failure,
            logprobs=tuple(map(tuple, logprobs.tolist())),
            rewards=tuple(map(numbers, graded.reward)),
        )

    def _picked(self, graded: Rewards, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return by row the reward of the likeliest choice (`best` [rows, 1]), and its bounds; NaN: nothing is known.

        One that nobody judged counts as the worst where the right one is known, and elsewhere as a guess among all
        that nobody judged. One that the grader failed on does not count.
        """
        known = self._validation_rewards
        picked, failed = graded.reward.gather(1, best).squeeze(1), graded.failed.gather(1, best).squeeze(1)
        valid = graded.reward.isfinite()
        settled = (graded.reward.nan_to_num(known.lowest) >= known.highest).any(1)
        guess = known.lowest + (known.highest - known.lowest) / (~valid).sum(1).clamp(min=1)
        worst = torch.full_like(picked, known.lowest)
        unknown = picked.isnan() & ~failed & valid.any(1)
        most = torch.where(settled, worst, torch.full_like(picked, known.highest))
        return (
            torch.where(unknown, torch.where(settled, worst, guess), picked),
            torch.where(unknown, worst, picked),
            torch.where(unknown, most, picked),
        )

    def state(self) -> dict[str, Tensor]:
        """See `Learner`."""
        rewards = self._train_rewards
        return {
            "rewards": rewards.values.clone(),
            "rewards_known": rewards.known.clone(),
            "solved": self._solved.clone(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Learner`."""
        self._train_rewards.values.copy_(state["rewards"])
        self._train_rewards.known.copy_(state["rewards_known"])
        self._solved.copy_(state["solved"])

    def solved(self) -> Tensor:
        """See `Learner`."""
        return self._solved

    def _trees(self, rows: Sequence[TrainingRow], param: str) -> list[Tree]:
        tokens = self._task.tokens
        branches = tuple(tuple(tokens.encode_completion(choice)) for choice in self._task.spec.choices)
        return [Tree(prompt, branches) for prompt in prompt_ids(self._task, rows, max(map(len, branches)), param)]
