"""Direct preference optimisation as a tuning method of somebody else's package: one file and one line.

The line is the package's entry point: `dpo = "dpo:Dpo"` in the group `bessemer.tuning_methods`.
"""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from bessemer.core.openai import AutoFloat
from bessemer.core.types import JSON
from bessemer.feedback.rows import Fault, TrainingRow, read_chat
from bessemer.tuning.backend import Scored, Tree
from bessemer.tuning.method import RANGES, Hyperparameters, Method, MethodBody, StepResult, TuningTask, prompt_ids
from bessemer.tuning.options import Options
from bessemer.tuning.spec import MethodSpec, Validation


class PreferenceRow(TrainingRow, frozen=True):
    """A question, the better answer (`completion`) and the worse one."""

    rejected: str = ""

    @property
    def answers(self) -> tuple[str, ...]:
        return (self.completion or "", self.rejected)


class Preference:
    """OpenAI's rows for `dpo`."""

    name = "preference"
    seen = "it is a preference"
    told = "dpo rows have `input`, `preferred_output` and `non_preferred_output`"

    def owns(self, record: JSON) -> bool:
        return "preferred_output" in record

    def read(self, record: JSON, number: int) -> TrainingRow:
        asked = record.get("input")
        if not isinstance(asked, dict):
            raise Fault("`input` is not an object with `messages`")
        better, worse = (self._answer(record, name) for name in ("preferred_output", "non_preferred_output"))
        messages = read_chat(dict(asked)).messages
        return PreferenceRow(messages=messages, completion=better, item={}, number=number, rejected=worse)

    def _answer(self, record: JSON, name: str) -> str:
        match record.get(name):
            case [{"role": "assistant", "content": str(text)}]:
                return text
        raise Fault(f"`{name}` is not a list of one assistant message")


class DpoHyperparameters(Hyperparameters, kw_only=True):
    beta: AutoFloat = "auto"


class DpoSpec(MethodSpec, frozen=True):
    beta: float = 0.1


class DpoBody(MethodBody, kw_only=True):
    hyperparameters: DpoHyperparameters = msgspec.field(default_factory=DpoHyperparameters)


class Dpo(Method):
    """OpenAI's `dpo` (Rafailov et al. 2023, arXiv 2305.18290)."""

    name = "dpo"
    wire = "dpo"
    rows = Preference()
    body = DpoBody
    ranges = RANGES | {"beta": (0.0, 2.0)}

    def configure(self, hyperparameters: DpoHyperparameters, options: Options) -> DpoSpec:
        del options
        return DpoSpec() if hyperparameters.beta == "auto" else DpoSpec(beta=float(hyperparameters.beta))

    def learner(self, task: TuningTask) -> "DpoLearner":
        return DpoLearner(task, task.own(DpoSpec).beta)


class DpoLearner:
    def __init__(self, task: TuningTask, beta: float) -> None:
        self._task, self._beta = task, beta
        self._train, self._validation = (
            self._trees(rows, param)
            for rows, param in ((task.train, "training_file"), (task.validation, "validation_file"))
        )
        # The reference is the start: no weights have moved yet, and a run that goes on loads its own later.
        self._reference, self._valid_reference = (self._margins(trees) for trees in (self._train, self._validation))

    def accumulate(self, indices: Sequence[int], step: int) -> StepResult:
        reference = self._reference[list(indices)]
        right = [0]

        def loss(scored: Scored) -> Tensor:
            chosen, rejected = scored.branch_sums().view(-1, 2).unbind(1)
            margin = chosen - rejected - reference[scored.trees]
            right[0] += int((margin > 0).sum())
            return -torch.nn.functional.logsigmoid(self._beta * margin).sum() / len(indices)

        value = self._task.backend.forward_backward([self._train[i] for i in indices], loss)
        return StepResult({"train_loss": value, "train_mean_token_accuracy": right[0] / len(indices)}, signal=True)

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        margin = self._margins([self._validation[i] for i in rows]) - self._valid_reference[list(rows)]
        losses = -torch.nn.functional.logsigmoid(self._beta * margin)
        loss = float(losses.mean())
        return Validation(step=step, score=-loss, loss=loss, row_scores=tuple((-losses).tolist()))

    def solved(self) -> Tensor:
        return torch.zeros(len(self._train), dtype=torch.bool)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass

    def _margins(self, trees: Sequence[Tree]) -> Tensor:
        scored = self._task.backend.score(trees)
        return torch.tensor([float(chosen.sum() - rejected.sum()) for chosen, rejected in scored])

    def _trees(self, rows: Sequence[TrainingRow], param: str) -> list[Tree]:
        encode = self._task.tokens.encode_completion
        branches = [tuple(tuple(encode(text)) for text in row.answers) for row in rows]
        longest = max((len(branch) for pair in branches for branch in pair), default=0)
        prompts = prompt_ids(self._task, rows, longest, param)
        return [Tree(prompt, pair) for prompt, pair in zip(prompts, branches, strict=True)]
