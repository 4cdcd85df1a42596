"""Group-relative policy optimisation: samples of the model itself, centred rewards, one update per batch.

The backend samples from the very weights that are being trained, so the ratio of new to old policy is exactly 1 when
the gradient is taken. Groups without variance are skipped before any forward pass. Truncated answers stay in the
baseline but carry no gradient; tokens a grammar forced carry none either.

A model that is sure of itself draws the same answer eight times: what it never tries is never rewarded. After a step in
which more groups agreed on less than the best reward than differed, the next one explores: it draws hotter, and learns
from the answers alone that beat the model's own (docs/decisions/011). Once every row was explored in vain, it is not
done again until a group differs: the best that the model can reach may be less than the best that there is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from bessemer.core.errors import InvalidRequest, TuningError
from bessemer.core.inferences import TokenLogprob
from bessemer.core.lazy import Lazy
from bessemer.core.template import render_grammar
from bessemer.engine.request import Constraint, GenerateRequest, Generation, JsonSchema, Lark
from bessemer.engine.tokens import Tokens
from bessemer.feedback.rows import TrainingRow
from bessemer.gateway.fields import confident
from bessemer.tuning.backend import Backend, Scored, Tree
from bessemer.tuning.credit import TokenizedAnswer, by_answer, by_field, shared
from bessemer.tuning.losses import clipped, completed, k3
from bessemer.tuning.method import StepResult, TuningTask, prompt_ids
from bessemer.tuning.options import Options
from bessemer.tuning.reinforcement import Reinforcement, ReinforcementHyperparameters
from bessemer.tuning.rewards import Rewards, graded, numbers, reward_metrics, varying
from bessemer.tuning.spec import MethodSpec, RewardFunction, TuneSpec, Validation

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

_THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Field thresholds that an evaluation tries; the best lies near half of the reachable F1."""
_MISMATCH_LIMIT = 0.05
"""Mean k3 divergence per token between sampler and trainer above which a run stops: they are not the same policy."""


class GrpoSpec(MethodSpec, frozen=True):
    """What the method alone goes by."""

    samples_per_prompt: int = 8
    credit: Literal["answer", "field"] = "answer"
    """Every token of an answer gets its reward, or those of a JSON answer's field what the field adds to it."""
    clip_low: float = 0.2
    clip_high: float = 0.28


class Grpo(Reinforcement):
    """OpenAI's `reinforcement` where answers are free text or JSON."""

    name = "grpo"
    options = frozenset({"samples_per_prompt", "credit"})
    needs = "a prompt or version without choices"
    learning_rate = 2e-4

    def configure(self, hyperparameters: ReinforcementHyperparameters, options: Options) -> GrpoSpec:
        """See `Method`: OpenAI's compute_multiplier scales how much is explored per prompt."""
        samples, multiplier = options.samples_per_prompt, hyperparameters.compute_multiplier
        if multiplier != "auto":
            samples = max(2, round(samples * float(multiplier)))
        return GrpoSpec(samples_per_prompt=samples, credit=options.credit)

    def answer_room(self, tokens: Tokens, choices: Sequence[str], max_tokens: int) -> int:
        """See `Method`."""
        del tokens, choices
        return max_tokens

    def learner(self, task: TuningTask) -> GrpoLearner:
        """See `Method`."""
        return GrpoLearner(task)


class Drawing(NamedTuple):
    """How tokens are drawn."""

    temperature: float
    top_k: int = 0
    """Of this many most likely tokens; 0: of all."""


_PLAIN, _GREEDY = Drawing(1.0), Drawing(0.0)
_EXPLORING = Drawing(2.0, top_k=8)
"""At this temperature the many unlikely tokens would win together: only the likeliest are drawn from."""


class Ask(NamedTuple):
    """A row as the sampler is asked about it."""

    prompt: tuple[int, ...]
    constraint: Constraint | None


def asks(task: TuningTask, rows: Sequence[TrainingRow], param: str) -> list[Ask]:
    """Return what to ask about each row. Raises InvalidRequest that names the rows of `param` that are too long."""
    prompts = prompt_ids(task, rows, task.spec.max_tokens, param)
    return [Ask(prompt, _constraint(task.spec, row)) for prompt, row in zip(prompts, rows, strict=True)]


def _constraint(spec: TuneSpec, row: TrainingRow) -> Constraint | None:
    if spec.response_schema is not None:
        return JsonSchema(schema=spec.response_schema)
    if spec.grammar is not None:
        return Lark(grammar=render_grammar(spec.grammar, row.item.get("input") or {}))
    return None


class Rollouts:
    """Samples from the adapter that is being trained, under the rules that its answers will follow in use."""

    def __init__(self, task: TuningTask) -> None:
        self._spec, self._backend = task.spec, task.backend
        self.tokens = task.tokens
        self.field_threshold = task.spec.field_threshold

    def sample(self, asked: Sequence[Ask], seeds: Sequence[int], drawing: Drawing = _PLAIN) -> list[Generation]:
        """Return one answer per ask and seed."""
        return self._run(asked, seeds, drawing)

    def greedy(self, asked: Sequence[Ask]) -> list[Generation]:
        """Return the most likely answer, token by token."""
        return self._run(asked, [0] * len(asked), _GREEDY)

    def candidates(self, ask: Ask, answers: Sequence[Generation]) -> list[tuple[Tensor | None, ...]]:
        """Return what each token of some answers to an ask was drawn from, None: the whole vocabulary."""
        return self._backend.candidates(ask.constraint, answers)

    def _run(self, asked: Sequence[Ask], seeds: Sequence[int], drawing: Drawing) -> list[Generation]:
        return self._backend.sample(
            [
                GenerateRequest(
                    prompt=ask.prompt,
                    max_tokens=self._spec.max_tokens,
                    temperature=drawing.temperature,
                    top_k=drawing.top_k,
                    seed=seed,
                    constraint=ask.constraint,
                )
                for ask, seed in zip(asked, seeds, strict=True)
            ]
        )


def sample_seed(seed: int, step: int, row: int, sample: int) -> int:
    """Return the seed of one sample: a function of its place alone, so that a resumed run draws the same."""
    digest = hashlib.sha256(f"{seed}/{step}/{row}/{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def graded_answers(reward: RewardFunction, rows: Sequence[TrainingRow], answers: Sequence[Generation]) -> Rewards:
    """Return the reward of each answer."""
    return graded(reward([(row.item, answer.text) for row, answer in zip(rows, answers, strict=True)]))


def greedy_validation(
    rollouts: Rollouts, reward: RewardFunction, rows: Sequence[TrainingRow], asked: Sequence[Ask], step: int
) -> Validation:
    """Score the answers the model would give, at the field threshold that is set or, of some, at the best.

    An answer that nobody judged counts as the worst in the score: what is not known to be good must not look better
    than what is. Answers that the grader failed on are left out.
    """
    answers = [spelled(generation, rollouts.tokens) for generation in rollouts.greedy(asked)]
    thresholds = _THRESHOLDS if rollouts.field_threshold is None else (rollouts.field_threshold,)
    found = [(_greedy_rewards(reward, rows, answers, threshold), threshold) for threshold in thresholds]
    known = [(of_rows, threshold) for of_rows, threshold in found if bool(of_rows.reward.isfinite().any())]
    if not known:
        return Validation(step=step, score=None, failure=found[0][0].failure, unknown=_unknown(found[0][0]))
    seen = torch.cat([of_rows.reward.nan_to_num(0.0) for of_rows, _ in known])
    low, high = min(0.0, float(seen.min())), max(1.0, float(seen.max()))

    def worst(of_rows: Rewards) -> float:
        return float(of_rows.reward.nan_to_num(low)[~of_rows.failed].mean())

    best, threshold = max(known, key=lambda pair: (worst(pair[0]), -pair[1]))
    bounds = [best.reward.nan_to_num(end).masked_fill(best.failed, math.nan) for end in (low, high)]
    unknown = _unknown(best)
    return Validation(
        step=step,
        score=worst(best),
        mean_reward=None if unknown else float(best.reward.nanmean()),
        reward_bounds=(float(bounds[0].nanmean()), float(bounds[1].nanmean())),
        row_scores=numbers(best.reward),
        row_bounds=tuple(
            None if math.isnan(lowest) else (lowest, highest)
            for lowest, highest in zip(*(end.tolist() for end in bounds), strict=True)
        ),
        unknown=unknown,
        failure=best.failure,
        field_threshold=threshold,
    )


def _unknown(of_rows: Rewards) -> int:
    """Return the answers that nobody judged."""
    return int((of_rows.reward.isnan() & ~of_rows.failed).sum())


def spelled(generation: Generation, tokens: Tokens) -> TokenizedAnswer:
    """Spell out a generation's tokens."""
    parts = zip(generation.tokens, generation.logprobs, generation.forced, strict=True)
    return TokenizedAnswer(
        generation.text,
        tuple(
            TokenLogprob(token=tokens.token_bytes(token).decode("utf-8", "replace"), logprob=logprob, forced=forced)
            for token, logprob, forced in parts
        ),
    )


def _greedy_rewards(
    reward: RewardFunction, rows: Sequence[TrainingRow], answers: Sequence[TokenizedAnswer], threshold: float
) -> Rewards:
    texts = [confident(answer.text, answer.tokens, threshold) if threshold else answer.text for answer in answers]
    return graded(reward([(row.item, text) for row, text in zip(rows, texts, strict=True)]))


class GrpoLearner:
    """See the module."""

    def __init__(self, task: TuningTask) -> None:
        if task.reward is None:
            raise InvalidRequest("The reinforcement method needs a grader.", param="method")
        self._task, self._own = task, task.own(GrpoSpec)
        self._reward = task.reward
        self._train = asks(task, task.train, "training_file")
        self._validation = asks(task, task.validation, "validation_file")
        self._rollouts = Rollouts(task)
        self._best = 1.0
        """The highest reward that is known to exist: a grader's usual maximum, or more when it was seen."""
        self._stuck = False
        self._in_vain = 0
        """Rows in a row whose exploration found nothing."""

    def accumulate(self, indices: Sequence[int], step: int) -> StepResult:
        """See `Learner`."""
        spec, group = self._task.spec, self._own.samples_per_prompt
        flat = [i for i in indices for _ in range(group)]
        seeds = [sample_seed(spec.seed, step, i, k) for i in indices for k in range(group)]
        exploring = self._stuck
        answers = self._rollouts.sample([self._train[i] for i in flat], seeds, _EXPLORING if exploring else _PLAIN)
        if not all(math.isfinite(logprob) for answer in answers for logprob in answer.logprobs):
            return StepResult({"train_loss": math.nan}, signal=True)  # the weights are broken: the run goes back
        found = graded_answers(self._reward, [self._task.train[i] for i in flat], answers)
        found.check(spec.max_failures)
        given_RG, failed_RG = found.reward.view(len(indices), group), found.failed.view(len(indices), group)
        metrics = self._rollout_metrics(given_RG, failed_RG, answers) | {"exploring": float(exploring)}
        self._stuck = not exploring and self._agrees(given_RG) and self._in_vain < len(self._train)
        # "Wrong" of one answer, and nothing of the others, still says: not this one. Broken grades say nothing.
        reward_RG = torch.where(failed_RG.any(-1, keepdim=True), given_RG, completed(given_RG))
        gain_RG = self._gains(indices, reward_RG) if exploring else None
        if gain_RG is not None:
            self._in_vain = 0 if bool((gain_RG > 0).any()) else self._in_vain + len(indices)
        elif bool(varying(reward_RG).any()):
            self._in_vain = 0
        used = (varying(reward_RG) if gain_RG is None else (gain_RG > 0).any(-1)).nonzero().squeeze(1).tolist()
        groups = [answers[r * group : (r + 1) * group] for r in used]
        asked = [self._train[indices[r]] for r in used]
        rows = [self._task.train[indices[r]] for r in used]
        advantages = self._advantages(rows, groups, reward_RG[used], None if gain_RG is None else gain_RG[used])
        taught_RG = reward_RG.isfinite() if gain_RG is None else gain_RG > 0
        weights = [row.weight for row in rows]
        loss, mismatch = _policy_loss(
            self._task.backend, self._rollouts, asked, groups, advantages, taught_RG[used].tolist(), weights, self._own
        )
        if loss is None:
            return StepResult({**metrics, "train_loss": 0.0}, signal=False, explored=exploring)
        if mismatch > _MISMATCH_LIMIT:
            raise TuningError(
                f"Sampler and trainer disagree: mean divergence {mismatch:.3g} per token, limit {_MISMATCH_LIMIT}.",
                code="policy_mismatch",
            )
        return StepResult({**metrics, "train_loss": loss, "mismatch_kl": mismatch}, signal=True)

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        """See `Learner`."""
        asked, validation = [self._validation[i] for i in rows], [self._task.validation[i] for i in rows]
        return greedy_validation(self._rollouts, self._reward, validation, asked, step)

    def solved(self) -> Tensor:
        """See `Learner`."""
        return torch.zeros(len(self._task.train), dtype=torch.bool)

    def state(self) -> dict[str, Tensor]:
        """See `Learner`."""
        values = {"best": self._best, "stuck": self._stuck, "in_vain": self._in_vain}
        return {name: torch.tensor(value) for name, value in values.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Learner`."""
        if "best" in state:  # a run that an earlier version began has none
            self._best, self._stuck = float(state["best"]), bool(state["stuck"])
            self._in_vain = int(state.get("in_vain", 0))

    def _agrees(self, reward_RG: Tensor) -> bool:
        """Return whether more groups agree on less than the best reward than differ."""
        highest_R = reward_RG.nan_to_num(-math.inf).amax(-1)
        self._best = max(self._best, float(highest_R.max()))
        differ_R = varying(reward_RG)
        agree_R = ~differ_R & highest_R.isfinite() & (highest_R < self._best)
        return bool(agree_R.sum() > differ_R.sum())

    def _gains(self, indices: Sequence[int], reward_RG: Tensor) -> Tensor:
        """Return by how much each explored answer beats the one that the model itself would give; 0 where it does not.

        The model's own answer as the baseline is Rennie et al. 2017 (self-critical training). What is worse teaches
        nothing: the model would not have said it.
        """
        own = self._rollouts.greedy([self._train[i] for i in indices])
        own_R = graded_answers(self._reward, [self._task.train[i] for i in indices], own).reward
        return (reward_RG - own_R[:, None]).nan_to_num(0.0).clamp(min=0.0)

    def _advantages(
        self,
        rows: Sequence[TrainingRow],
        groups: Sequence[Sequence[Generation]],
        reward_RG: Tensor,
        gain_RG: Tensor | None,
    ) -> list[list[Tensor]]:
        """Return the advantage of every token, [group][answer] -> [tokens]; a cut answer and a forced token: 0.

        `gain_RG`: of explored answers, which have no other advantage.
        """
        answers = [[spelled(generation, self._rollouts.tokens) for generation in group] for group in groups]
        if gain_RG is not None:
            advantages = shared(answers, gain_RG)
        elif self._own.credit == "field":
            advantages = by_field(self._reward, rows, answers, reward_RG)
        else:
            advantages = by_answer(answers, reward_RG)
        return [
            [
                torch.where(torch.tensor(answer.forced), 0.0, (answer.finish_reason != "length") * value)
                for answer, value in zip(group, of_group, strict=True)
            ]
            for group, of_group in zip(groups, advantages, strict=True)
        ]

    def _rollout_metrics(self, reward_RG: Tensor, failed_RG: Tensor, answers: Sequence[Generation]) -> dict[str, float]:
        scorable = reward_RG[reward_RG.isfinite()]
        return {
            **reward_metrics(reward_RG, failed_RG),
            **({"reward_mean": float(scorable.mean())} if len(scorable) else {}),
            "completion_tokens_mean": sum(a.completion_tokens for a in answers) / len(answers),
            "truncated_share": sum(a.finish_reason == "length" for a in answers) / len(answers),
            "tokens_sampled": float(sum(a.completion_tokens for a in answers)),
        }


def _policy_loss(
    backend: Backend,
    rollouts: Rollouts,
    asked: Sequence[Ask],
    groups: Sequence[Sequence[Generation]],
    advantage_RG: Sequence[Sequence[Tensor]],
    taught_RG: Sequence[Sequence[bool]],
    weights: Sequence[float],
    own: GrpoSpec,
) -> tuple[float | None, float]:
    """Accumulate the gradient of the clipped surrogate: its mean, weighted by row, over the tokens that it is about.

    These are the tokens that the model chose, of answers that were not cut and that take part (`taught_RG`: scored, or
    of an exploration those that found something), whatever their advantage: an answer whose reward is the mean exactly
    counts as one does whose reward is a little more. One group that differs moves the model as far as eight do, which
    Adam, blind to a gradient's scale, would make of any other normaliser; and what weighs is how much a row weighs
    beside the others of its step.
    The policy is what was sampled: under a grammar, the model among the tokens that it left. Returns (loss or None when
    no token carries an advantage, mean k3 divergence of the sampler's log-probabilities).
    """
    trees = [Tree(ask.prompt, tuple(a.tokens for a in answers)) for ask, answers in zip(asked, groups, strict=True)]
    advantages = [torch.cat(list(of_group)) * weight for of_group, weight in zip(advantage_RG, weights, strict=True)]
    sampled = [torch.cat([torch.tensor(answer.logprobs) for answer in answers]) for answers in groups]
    active = sum(
        weight * sum(_chosen(answer) for answer, taught in zip(answers, of_group, strict=True) if taught)
        for answers, of_group, weight in zip(groups, taught_RG, weights, strict=True)
    )
    if not any(bool(part.any()) for part in advantages):
        return None, 0.0
    divergence = [0.0]

    def loss(scored: Scored) -> Tensor:
        advantage_I = torch.cat([advantages[i] for i in scored.trees])
        old = scored.logprob_I.detach()
        log_ratio = scored.logprob_I - old  # in process: a ratio of exactly 1, whose gradient is that of log pi
        divergence[0] += float(k3(torch.cat([sampled[i] for i in scored.trees]) - old).sum())
        loss_I = clipped(log_ratio, advantage_I, own.clip_low, own.clip_high)
        return loss_I.sum() / active

    constrained = any(ask.constraint is not None for ask in asked)
    candidates = [rollouts.candidates(*pair) for pair in zip(asked, groups, strict=True)] if constrained else None
    value = backend.forward_backward(trees, loss, candidates=candidates)
    return value, divergence[0] / sum(len(part) for part in sampled)


def _chosen(answer: Generation) -> int:
    """Return how many tokens of an answer the model chose itself; none of one that was cut."""
    return 0 if answer.finish_reason == "length" else len(answer.forced) - sum(answer.forced)
