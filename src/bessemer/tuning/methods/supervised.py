"""Supervised fine-tuning: the maximum likelihood of demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from bessemer.core.lazy import Lazy
from bessemer.engine.tokens import Tokens
from bessemer.feedback.rows import DEMONSTRATION, RowKind, TrainingRow
from bessemer.tuning.backend import Scored, Tree
from bessemer.tuning.mentions import Mentions
from bessemer.tuning.method import Method, StepResult, TuningTask, refuse
from bessemer.tuning.options import Options
from bessemer.tuning.spec import MethodSpec, Validation

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")

_RANDOM_CANDIDATES = 1024
"""Random tokens beside a step's own that a loss under a grammar is normalised over."""
_SEEN = 2400
"""How many demonstrations a job sees by itself, repetitions included: 300 steps of 8."""
_SEEN_ANEW = 3600
"""The same where mentions are replaced, so that no reading is a repetition: 450 steps (decision 012)."""


class SupervisedSpec(MethodSpec, frozen=True):
    """What the method alone goes by."""

    mention_replacement: float = 0.0
    """Share of the values from the prompt that a reading replaces by other rows' (`mentions.Mentions`)."""
    mention_group: str | None = None
    """Field of the rows' `input` that rows must share to lend each other values; None: all do."""


class Supervised(Method):
    """OpenAI's `supervised`."""

    name = "sft"
    wire = "supervised"
    rows: ClassVar[RowKind] = DEMONSTRATION
    options = frozenset({"mention_replacement", "mention_group"})
    needs = "demonstrations"
    likelihood = True

    def epochs(self, rows: int, options: Options) -> float:
        """About 300 steps, two passes at least, ten at most; validation saw nothing in more (decision 009).

        Where mentions are replaced: half as many again.
        """
        return min(10.0, max(2.0, (_SEEN_ANEW if options.mention_replacement > 0 else _SEEN) / rows))

    def configure(self, hyperparameters: Any, options: Options) -> SupervisedSpec:
        """See `Method`."""
        del hyperparameters
        return SupervisedSpec(mention_replacement=options.mention_replacement, mention_group=options.mention_group)

    def learner(self, task: TuningTask) -> SupervisedLearner:
        """See `Method`."""
        return SupervisedLearner(task)


class _Lesson(NamedTuple):
    """A conversation as it is read: a tree of one branch, and which of the branch's tokens are demonstrated."""

    tree: Tree
    taught: tuple[bool, ...]


def lessons(tokens: Tokens, row: TrainingRow) -> list[_Lesson]:
    """Return what a row teaches: each of its demonstrations after what the model is shown before it in use.

    One reading teaches all turns, as long as the template renders a conversation as the beginning of its continuation.
    A turn before which it is rendered otherwise (a template that drops earlier reasoning) begins a lesson of its own.
    """
    found: list[_Lesson] = []
    turns = [(row.messages[:place], row.messages[place]["content"]) for place in row.taught]
    for before, text in (*turns, (row.messages, row.completion or "")):
        prompt, answer = tuple(tokens.encode_chat(before)), tuple(tokens.encode_completion(text))
        if found:
            tree, taught = found[-1]
            so_far = (*tree.prompt, *tree.branches[0])
            if prompt[: len(so_far)] == so_far:
                between = prompt[len(so_far) :]
                joined = Tree(tree.prompt, ((*tree.branches[0], *between, *answer),))
                found[-1] = _Lesson(joined, (*taught, *[False] * len(between), *[True] * len(answer)))
                continue
        found.append(_Lesson(Tree(prompt, (answer,)), (True,) * len(answer)))
    return found


class SupervisedLearner:
    """Maximum likelihood of demonstrations: their tokens only, the end of the turn included, token mean."""

    def __init__(self, task: TuningTask) -> None:
        self._task = task
        self._train = self._lessons(task.train, "training_file")
        self._validation = self._lessons(task.validation, "validation_file")
        own = task.own(SupervisedSpec)
        self._mentions = (
            Mentions(task.train, own.mention_replacement, own.mention_group, task.spec.seed)
            if own.mention_replacement
            else None
        )

    def accumulate(self, indices: Sequence[int], step: int) -> StepResult:
        """See `Learner`."""
        read = [self._read(i, step) for i in indices]
        trees = [lesson.tree for row in read for lesson in row]
        taught = [torch.tensor(lesson.taught) for row in read for lesson in row]
        weights = torch.tensor([self._task.train[i].weight for i, row in zip(indices, read, strict=True) for _ in row])
        sizes = torch.tensor([int(tokens.sum()) for tokens in taught])
        total = float((weights * sizes).sum())
        if total == 0:
            return StepResult({"train_loss": 0.0}, signal=False)
        hits = [0]

        def loss(scored: Scored) -> Tensor:
            taught_I = torch.cat([taught[i] for i in scored.trees])
            hits[0] += int((scored.hit_I & taught_I).sum())
            weight_I = weights[torch.tensor(scored.trees)][scored.branch_I] * taught_I
            return -(scored.logprob_I * weight_I).sum() / total

        value = self._task.backend.forward_backward(trees, loss, among=self._candidates(trees, step))
        metrics = {"train_loss": value, "train_mean_token_accuracy": hits[0] / int(sizes.sum())}
        if self._mentions is not None:
            metrics["rows_replaced"] = sum(row is not self._train[i] for i, row in zip(indices, read, strict=True))
        return StepResult(metrics, signal=True)

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        """See `Learner`."""
        trees = [lesson.tree for i in rows for lesson in self._validation[i]]
        scored = iter(self._task.backend.score(trees))
        logprobs = [
            torch.cat([next(scored)[0][torch.tensor(lesson.taught)] for lesson in self._validation[i]]) for i in rows
        ]
        count = sum(len(logprob) for logprob in logprobs)
        loss = -sum(float(logprob.sum()) for logprob in logprobs) / max(count, 1)
        means = tuple(float(logprob.mean()) if len(logprob) else None for logprob in logprobs)
        return Validation(step=step, score=-loss, loss=loss, row_scores=means)

    def solved(self) -> Tensor:
        """See `Learner`."""
        return torch.zeros(len(self._train), dtype=torch.bool)

    def state(self) -> dict[str, Tensor]:
        """See `Learner`."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """See `Learner`."""

    def _candidates(self, trees: Sequence[Tree], step: int) -> Tensor | None:
        """Return the tokens that the loss of a step is normalised over; None: all.

        Answers under a grammar are drawn from what it allows, mostly names it holds and spans of the prompt. Their loss
        needs no whole vocabulary: the step's own tokens and some random ones, which hold down the rest (sampled
        softmax, Jean et al. 2015, arXiv 1412.2007, without its correction, since the mask of the grammar follows).
        """
        spec, size = self._task.spec, self._task.backend.vocab_size
        if spec.grammar is None or size <= _RANDOM_CANDIDATES:
            return None
        own = {token for tree in trees for part in (tree.prompt, *tree.branches) for token in part}
        generator = torch.Generator().manual_seed(spec.seed * 1_000_003 + step)
        others = torch.randint(size, (_RANDOM_CANDIDATES,), generator=generator)
        own_and_others: Tensor = torch.unique(torch.cat([torch.tensor(sorted(own)), others]))
        return own_and_others

    def _read(self, index: int, step: int) -> list[_Lesson]:
        """Return a training row as this step reads it."""
        row = self._task.train[index] if self._mentions is None else self._mentions.drawn(index, step)
        if row is self._task.train[index]:
            return self._train[index]
        read = lessons(self._task.tokens, row)
        return read if _length(read) <= self._task.context else self._train[index]

    def _lessons(self, rows: Sequence[TrainingRow], param: str) -> list[list[_Lesson]]:
        read = []
        for row in rows:
            self._task.heed()
            read.append(lessons(self._task.tokens, row))
        refuse(rows, list(map(_length, read)), self._task.context, param)
        return read


def _length(read: Sequence[_Lesson]) -> int:
    """Return the tokens of a row's longest reading."""
    return max(len(lesson.tree.prompt) + len(lesson.tree.branches[0]) for lesson in read)
