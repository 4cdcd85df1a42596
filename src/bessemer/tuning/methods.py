"""What a method is to the loop, and the two that need no sampling: supervised and exact expected reward.

A method turns row indices into an accumulated gradient and metrics, and the validation rows into a `Validation`. The
loop (`tuner.Tuner`) knows nothing else about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bessemer.core.errors import InvalidRequest
from bessemer.engine.tokens import Tokens
from bessemer.feedback.rows import Row
from bessemer.tuning.lengths import check_room, refuse_long
from bessemer.tuning.losses import completed, expected_reward_loss
from bessemer.tuning.mentions import Mentions
from bessemer.tuning.packing import Tree
from bessemer.tuning.rewards import ChoiceRewards, Graded, numbers, reward_metrics, varying
from bessemer.tuning.spec import Reward, TuneSpec, Validation
from bessemer.tuning.trainer import Scored, Trainer

_RANDOM_CANDIDATES = 1024
"""Random tokens beside a step's own that a loss under a grammar is normalised over."""


@dataclass(frozen=True)
class Outcome:
    """A step's metrics, and whether it left a gradient worth an update."""

    metrics: dict[str, float]
    signal: bool
    explored: bool = False
    """The step looked for what the model would not have said itself."""


class Method(Protocol):
    """A tuning method."""

    def accumulate(self, indices: Sequence[int], step: int) -> Outcome:
        """Add the gradient of some training rows to the trainer's."""
        ...

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        """Score some of the validation rows with the adapter as it is."""
        ...

    def solved(self) -> Tensor:
        """Return which training rows [rows] have nothing more to teach, as far as they were seen."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what an exact continuation needs beyond the trainer's state."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state."""
        ...


@dataclass(frozen=True)
class Task:
    """What a method works on."""

    spec: TuneSpec
    trainer: Trainer
    tokens: Tokens
    train: Sequence[Row]
    validation: Sequence[Row]
    reward: Reward | None

    @property
    def context(self) -> int:
        """Tokens of question and answer that the model has room for, as it was made and as it is served."""
        made_for = int(self.trainer.network.config.context_length)
        return made_for if self.spec.context_tokens is None else min(made_for, self.spec.context_tokens)


def prompt_ids(task: Task, rows: Sequence[Row], answer: int, param: str) -> list[tuple[int, ...]]:
    """Return each row's prompt as token ids. Raises InvalidRequest that names the rows of `param` that are too long.

    `answer`: tokens of the longest answer, for which a prompt leaves room.
    """
    limit = task.context - answer
    check_room(limit)
    prompts = []
    for row in rows:
        task.trainer.heed()
        prompts.append(tuple(task.tokens.encode_chat(row.messages)))
    refuse(rows, list(map(len, prompts)), limit, param)
    return prompts


def refuse(rows: Sequence[Row], lengths: Sequence[int], limit: int, param: str) -> None:
    """Raise InvalidRequest that names the rows of `param` that are longer than `limit` tokens."""
    numbered = enumerate(zip(rows, lengths, strict=True), 1)
    refuse_long(
        [(row.number or place, length) for place, (row, length) in numbered if length > limit], len(rows), limit, param
    )


class Lesson(NamedTuple):
    """A conversation as it is read: a tree of one branch, and which of the branch's tokens are demonstrated."""

    tree: Tree
    taught: tuple[bool, ...]


def lessons(tokens: Tokens, row: Row) -> list[Lesson]:
    """Return what a row teaches: each of its demonstrations after what the model is shown before it in use.

    One reading teaches all turns, as long as the template renders a conversation as the beginning of its continuation.
    A turn before which it is rendered otherwise (a template that drops earlier reasoning) begins a lesson of its own.
    """
    found: list[Lesson] = []
    turns = [(row.messages[:place], row.messages[place]["content"]) for place in row.taught]
    for before, text in (*turns, (row.messages, row.completion or "")):
        prompt, answer = tuple(tokens.encode_chat(before)), tuple(tokens.encode_completion(text))
        if found:
            tree, taught = found[-1]
            so_far = (*tree.prompt, *tree.branches[0])
            if prompt[: len(so_far)] == so_far:
                between = prompt[len(so_far) :]
                joined = Tree(tree.prompt, ((*tree.branches[0], *between, *answer),))
                found[-1] = Lesson(joined, (*taught, *[False] * len(between), *[True] * len(answer)))
                continue
        found.append(Lesson(Tree(prompt, (answer,)), (True,) * len(answer)))
    return found


class Supervised:
    """Maximum likelihood of demonstrations: their tokens only, the end of the turn included, token mean."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._train = self._lessons(task.train, "training_file")
        self._validation = self._lessons(task.validation, "validation_file")
        spec = task.spec
        self._mentions = (
            Mentions(task.train, spec.mention_replacement, spec.mention_group, spec.seed)
            if spec.mention_replacement
            else None
        )

    def accumulate(self, indices: Sequence[int], step: int) -> Outcome:
        """See `Method`."""
        read = [self._read(i, step) for i in indices]
        trees = [lesson.tree for row in read for lesson in row]
        taught = [torch.tensor(lesson.taught) for row in read for lesson in row]
        weights = torch.tensor([self._task.train[i].weight for i, row in zip(indices, read, strict=True) for _ in row])
        sizes = torch.tensor([int(tokens.sum()) for tokens in taught])
        total = float((weights * sizes).sum())
        if total == 0:
            return Outcome({"train_loss": 0.0}, signal=False)
        hits = [0]

        def loss(scored: Scored) -> Tensor:
            taught_I = torch.cat([taught[i] for i in scored.trees])
            hits[0] += int((scored.hit_I & taught_I).sum())
            weight_I = weights[torch.tensor(scored.trees)][scored.branch_I] * taught_I
            return -(scored.logprob_I * weight_I).sum() / total

        value = self._task.trainer.forward_backward(trees, loss, among=self._candidates(trees, step))
        metrics = {"train_loss": value, "train_mean_token_accuracy": hits[0] / int(sizes.sum())}
        if self._mentions is not None:
            metrics["rows_replaced"] = sum(row is not self._train[i] for i, row in zip(indices, read, strict=True))
        return Outcome(metrics, signal=True)

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        """See `Method`."""
        trees = [lesson.tree for i in rows for lesson in self._validation[i]]
        scored = iter(self._task.trainer.forward(trees))
        logprobs = [
            torch.cat([next(scored)[0][torch.tensor(lesson.taught)] for lesson in self._validation[i]]) for i in rows
        ]
        count = sum(len(logprob) for logprob in logprobs)
        loss = -sum(float(logprob.sum()) for logprob in logprobs) / max(count, 1)
        means = tuple(float(logprob.mean()) if len(logprob) else None for logprob in logprobs)
        return Validation(step=step, score=-loss, loss=loss, row_scores=means)

    def solved(self) -> Tensor:
        """See `Method`."""
        return torch.zeros(len(self._train), dtype=torch.bool)

    def state(self) -> dict[str, Tensor]:
        """See `Method`."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Method`."""

    def _candidates(self, trees: Sequence[Tree], step: int) -> Tensor | None:
        """Return the tokens that the loss of a step is normalised over; None: all.

        Answers under a grammar are drawn from what it allows, mostly names it holds and spans of the prompt. Their loss
        needs no whole vocabulary: the step's own tokens and some random ones, which hold down the rest (sampled
        softmax, Jean et al. 2015, arXiv 1412.2007, without its correction, since the mask of the grammar follows).
        """
        spec, size = self._task.spec, self._task.trainer.network.config.vocab_size
        if spec.grammar is None or size <= _RANDOM_CANDIDATES:
            return None
        own = {token for tree in trees for part in (tree.prompt, *tree.branches) for token in part}
        generator = torch.Generator().manual_seed(spec.seed * 1_000_003 + step)
        others = torch.randint(size, (_RANDOM_CANDIDATES,), generator=generator)
        own_and_others: Tensor = torch.unique(torch.cat([torch.tensor(sorted(own)), others]))
        return own_and_others

    def _read(self, index: int, step: int) -> list[Lesson]:
        """Return a training row as this step reads it."""
        row = self._task.train[index] if self._mentions is None else self._mentions.drawn(index, step)
        if row is self._task.train[index]:
            return self._train[index]
        read = lessons(self._task.tokens, row)
        return read if _length(read) <= self._task.context else self._train[index]

    def _lessons(self, rows: Sequence[Row], param: str) -> list[list[Lesson]]:
        read = []
        for row in rows:
            self._task.trainer.heed()
            read.append(lessons(self._task.tokens, row))
        refuse(rows, list(map(_length, read)), self._task.context, param)
        return read


def _length(read: Sequence[Lesson]) -> int:
    """Return the tokens of a row's longest reading."""
    return max(len(lesson.tree.prompt) + len(lesson.tree.branches[0]) for lesson in read)


class ExactReward:
    """Expected reward of an enumerable answer and its exact gradient: all choices scored in one pass, none sampled.

    p = softmax over the choices of their log-probabilities, terminator included; J = sum p r.
    """

    def __init__(self, task: Task) -> None:
        if task.reward is None or len(task.spec.choices) < 2:
            raise InvalidRequest("The exact method needs a grader and at least two choices.", param="method")
        self._task = task
        self._reward = task.reward
        self._train = self._trees(task.train, "training_file")
        self._validation = self._trees(task.validation, "validation_file")
        shape = len(task.spec.choices)
        self._solved = torch.zeros(len(task.train), dtype=torch.bool)
        self._train_rewards = ChoiceRewards(torch.full((len(task.train), shape), float("nan")))
        self._validation_rewards = ChoiceRewards(torch.full((len(task.validation), shape), float("nan")))

    def accumulate(self, indices: Sequence[int], step: int) -> Outcome:
        """See `Method`."""
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
            return Outcome({**metrics, "train_loss": 0.0}, signal=False)
        rewards, given = reward_RK[used], graded.reward[used]
        expected, certain, right = torch.zeros(3, len(kept))

        def loss(scored: Scored) -> Tensor:
            at = torch.tensor(scored.trees)
            logprob_RK = scored.branch_sums().view(len(at), -1)
            loss_R, expected[at] = expected_reward_loss(
                logprob_RK,
                rewards[at],
                logarithm=spec.objective == "log_reward",
                lowest=known.lowest,
                highest=known.highest,
            )
            certain[at] = (logprob_RK.detach().softmax(-1) * given[at].nan_to_num(known.lowest)).sum(-1)
            picked = given[at].gather(1, logprob_RK.detach().argmax(-1, keepdim=True)).squeeze(1)
            right[at] = (picked >= rewards[at].nan_to_num(-torch.inf).amax(1)).float()  # an unknown one is not right
            return (loss_R * weights[at]).sum() / total

        value = self._task.trainer.forward_backward([self._train[i] for i in kept], loss)
        highest, lowest = rewards.nan_to_num(-torch.inf).amax(1), rewards.nan_to_num(known.lowest).amin(1)
        self._solved[kept] = expected - lowest >= spec.solved_at * (highest - lowest)
        metrics |= {
            "solved_share": float(self._solved.float().mean()),
            "train_loss": value,
            "reward_mean": float((certain * weights).sum() / total),
            "train_mean_token_accuracy": float(right.mean()),
        }
        return Outcome(metrics, signal=True)

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        """See `Method`."""
        choices = self._task.spec.choices
        branches = self._task.trainer.forward([self._validation[i] for i in rows])
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

    def _picked(self, graded: Graded, best: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
        """See `Method`."""
        rewards = self._train_rewards
        return {
            "rewards": rewards.values.clone(),
            "rewards_known": rewards.known.clone(),
            "solved": self._solved.clone(),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Method`."""
        self._train_rewards.values.copy_(state["rewards"])
        self._train_rewards.known.copy_(state["rewards_known"])
        self._solved.copy_(state["solved"])

    def solved(self) -> Tensor:
        """See `Method`."""
        return self._solved

    def _trees(self, rows: Sequence[Row], param: str) -> list[Tree]:
        tokens = self._task.tokens
        branches = tuple(tuple(tokens.encode_completion(choice)) for choice in self._task.spec.choices)
        return [Tree(prompt, branches) for prompt in prompt_ids(self._task, rows, max(map(len, branches)), param)]
