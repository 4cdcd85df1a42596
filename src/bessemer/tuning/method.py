"""What a tuning method is: one file in `methods`, which says what it is asked, which rows it reads, and how it learns.

A method is read by the API process, too, when a job is created; what learns needs torch, and is made where it trains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.openai import AutoFloat, AutoInt, StrictWire
from bessemer.core.types import JSON
from bessemer.engine.tokens import Tokens
from bessemer.feedback.rows import RowKind, TrainingRow
from bessemer.tuning.backend import Backend
from bessemer.tuning.lengths import check_room, refuse_long
from bessemer.tuning.options import Options
from bessemer.tuning.selection import CheckpointScorer
from bessemer.tuning.spec import MethodSpec, RewardFunction, TuneSpec, Validation

if TYPE_CHECKING:
    from torch import Tensor

M = TypeVar("M", bound=MethodSpec)
UNBOUNDED = float("inf")
RANGES = {"n_epochs": (1.0, 50.0), "batch_size": (1.0, 256.0)}
"""Of the hyperparameters that all methods have; ends included."""


class Hyperparameters(StrictWire, kw_only=True):
    """Those that every method has; a method adds its own in a subclass. Each is `"auto"` or a number."""

    n_epochs: AutoInt = "auto"
    batch_size: AutoInt = "auto"
    learning_rate_multiplier: AutoFloat = "auto"


class MethodBody(StrictWire, kw_only=True):
    """What stands under the method's name in a request: `{"type": "x", "x": {…}}`."""

    hyperparameters: Hyperparameters = msgspec.field(default_factory=Hyperparameters)


@dataclass(frozen=True)
class TuningTask:
    """What a method works on."""

    spec: TuneSpec
    backend: Backend
    train: Sequence[TrainingRow]
    validation: Sequence[TrainingRow]
    reward: RewardFunction | None
    heed: Callable[[], None] = lambda: None
    """Called in long loops; what it raises breaks the work off."""

    def own(self, kind: type[M]) -> M:
        """Return what the method alone goes by, in its own type."""
        own = kind() if self.spec.own is None else self.spec.own
        assert isinstance(own, kind), f"a {kind.__name__} is what the method configures"
        return own

    @property
    def tokens(self) -> Tokens:
        """The model's tokenizer."""
        return self.backend.tokens

    @property
    def context(self) -> int:
        """Tokens of question and answer that the model has room for, as it was made and as it is served."""
        made_for, served = self.backend.context_length, self.spec.context_tokens
        return made_for if served is None else min(made_for, served)


@dataclass(frozen=True)
class StepResult:
    """A step's metrics, and whether it left a gradient worth an update."""

    metrics: dict[str, float]
    signal: bool
    explored: bool = False
    """The step looked for what the model would not have said itself."""


class Learner(Protocol):
    """A method at work: it turns rows into an accumulated gradient and metrics, and validation rows into a score.

    The loop (`tuner.Tuner`) knows nothing else about it.
    """

    def accumulate(self, indices: Sequence[int], step: int) -> StepResult:
        """Add the gradient of some training rows to the backend's."""
        ...

    def validate(self, step: int, rows: Sequence[int]) -> Validation:
        """Score some of the validation rows with the weights as they are."""
        ...

    def solved(self) -> Tensor:
        """Return which training rows [rows] have nothing more to teach, as far as they were seen."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return what an exact continuation needs beyond the backend's state."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state."""
        ...


class Method(ABC):
    """A tuning method: what it says here decides what the API takes, what a job is told, and how it runs."""

    name: ClassVar[str]
    """In lineages, plans and events."""
    wire: ClassVar[str]
    """What a request names in `method.type`. Methods that share one tell apart by the answers that they suit."""
    rows: ClassVar[RowKind]
    body: ClassVar[type[MethodBody]] = MethodBody
    ranges: ClassVar[dict[str, tuple[float, float]]] = RANGES
    """Of its hyperparameters that are numbers; ends included."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Metadata keys, without their prefix, that it uses and others may not be given."""
    needs: ClassVar[str] = "rows of its kind"
    """What it learns from, as in `it needs …`."""
    prompts_per_step: ClassVar[int] = 8
    learning_rate: ClassVar[float] = 1e-3
    """Peak, at a multiplier of 1."""
    likelihood: ClassVar[bool] = False
    """The loss is a negative log-likelihood of given answers: when it rises far, the run has diverged."""

    def read_hyperparameters(self, given: JSON) -> Any:
        """Return those of a request in their own type."""
        (kind,) = (field.type for field in msgspec.structs.fields(self.body) if field.name == "hyperparameters")
        return msgspec.convert(given, kind)

    def suits(self, choices: Sequence[str]) -> bool:
        """Whether it learns such answers; `choices`: those that an answer is one of, if they can be enumerated."""
        del choices
        return True

    def grader(self, body: Any) -> JSON | None:
        """Return the grader that a request brings, as JSON; None where nothing is graded."""
        del body
        return None

    def check(self, body: Any, where: str) -> None:
        """Refuse what it does not offer; `where`: the body's place. Raises InvalidRequest that names the field."""
        del body, where

    def check_answers(self, options: Options) -> None:
        """Refuse options that look at answers of another kind. Raises InvalidRequest."""
        del options

    def epochs(self, rows: int, options: Options) -> float:
        """Return what `auto` means for a job on so many training rows."""
        del rows, options
        return 3.0

    def configure(self, hyperparameters: Any, options: Options) -> MethodSpec | None:
        """Return what it alone goes by, from the request; None: nothing."""
        del hyperparameters, options
        return None

    def evaluations(self, hyperparameters: Any, steps: int, default: int) -> int:
        """Return how often the validation rows are evaluated over a run of so many steps."""
        del hyperparameters, steps
        return default

    def answer_room(self, tokens: Tokens, choices: Sequence[str], max_tokens: int) -> int:
        """Return the tokens that a row leaves for an answer; 0 where it holds its answers."""
        del tokens, choices, max_tokens
        return 0

    def judge(self, options: Options, choices: Sequence[str]) -> CheckpointScorer:
        """Return what checkpoints are compared by."""
        del options, choices
        return CheckpointScorer()

    @abstractmethod
    def learner(self, task: TuningTask) -> Learner:
        """Return the method at work. Raises InvalidRequest that names rows which it cannot use."""


def check_hyperparameters(values: Hyperparameters, ranges: dict[str, tuple[float, float]], where: str) -> None:
    """Raise InvalidRequest that names the hyperparameter under `where` that is out of its range."""
    for name, (low, high) in ranges.items():
        value = getattr(values, name)
        if isinstance(value, int | float) and not low <= value <= high:
            bound = f"at least {low:g}" if high == UNBOUNDED else f"{low:g} to {high:g}"
            raise InvalidRequest(f"'{name}' must be 'auto' or {bound}; got {value}.", param=f"{where}.{name}")
    rate = values.learning_rate_multiplier
    if not isinstance(rate, str) and not 0 < rate < UNBOUNDED:
        raise InvalidRequest(
            f"'learning_rate_multiplier' must be 'auto' or above 0; got {rate}.",
            param=f"{where}.learning_rate_multiplier",
        )


def prompt_ids(task: TuningTask, rows: Sequence[TrainingRow], answer: int, param: str) -> list[tuple[int, ...]]:
    """Return each row's prompt as token ids. Raises InvalidRequest that names the rows of `param` that are too long.

    `answer`: tokens of the longest answer, for which a prompt leaves room.
    """
    limit = task.context - answer
    check_room(limit)
    prompts = []
    for row in rows:
        task.heed()
        prompts.append(tuple(task.tokens.encode_chat(row.messages)))
    refuse(rows, list(map(len, prompts)), limit, param)
    return prompts


def refuse(rows: Sequence[TrainingRow], lengths: Sequence[int], limit: int, param: str) -> None:
    """Raise InvalidRequest that names the rows of `param` that are longer than `limit` tokens."""
    numbered = enumerate(zip(rows, lengths, strict=True), 1)
    refuse_long(
        [(row.number or place, length) for place, (row, length) in numbered if length > limit], len(rows), limit, param
    )
