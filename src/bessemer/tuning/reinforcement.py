"""What the methods behind OpenAI's `reinforcement` share: its body, its rows, and what of it is not offered."""

from typing import Any, ClassVar, Literal

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.openai import AutoFloat, AutoInt
from bessemer.core.types import JSON
from bessemer.feedback.rows import QUESTION, RowKind
from bessemer.tuning.method import RANGES, UNBOUNDED, Hyperparameters, Method, MethodBody
from bessemer.tuning.options import Options


class ReinforcementHyperparameters(Hyperparameters, kw_only=True):
    """OpenAI's reinforcement hyperparameters."""

    compute_multiplier: AutoFloat = "auto"
    eval_interval: AutoInt = "auto"
    eval_samples: AutoInt = "auto"
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = None


class ReinforcementBody(MethodBody, kw_only=True):
    """Body of `method.reinforcement`."""

    grader: JSON
    hyperparameters: ReinforcementHyperparameters = msgspec.field(default_factory=ReinforcementHyperparameters)
    response_format: JSON | None = None


class Reinforcement(Method):
    """A method that learns from a grader."""

    wire = "reinforcement"
    rows: ClassVar[RowKind] = QUESTION
    body = ReinforcementBody
    ranges: ClassVar[dict[str, tuple[float, float]]] = RANGES | {
        "compute_multiplier": (1e-5, 10.0),
        "eval_interval": (1.0, UNBOUNDED),
        "eval_samples": (1.0, UNBOUNDED),
    }

    def grader(self, body: ReinforcementBody) -> JSON:
        """See `Method`."""
        return body.grader

    def check(self, body: ReinforcementBody, where: str) -> None:
        """Refuse what would be ignored."""
        values = body.hyperparameters
        if values.eval_samples != "auto":
            raise InvalidRequest(
                "'eval_samples' is not offered: the answer that the model would give is evaluated once. Leave it out.",
                param=f"{where}.hyperparameters.eval_samples",
            )
        if values.reasoning_effort not in {None, "default"}:
            raise InvalidRequest(
                "'reasoning_effort' is not offered: local models do not reason apart. Leave it out.",
                param=f"{where}.hyperparameters.reasoning_effort",
            )
        if body.response_format not in (None, {"type": "text"}):
            raise InvalidRequest(
                "'response_format' is not offered: a version's answers follow the schema of its prompt or model in "
                "bessemer.toml. Leave it out.",
                param=f"{where}.response_format",
            )

    def epochs(self, rows: int, options: Options) -> float:
        """As many passes as a time limit leaves room for (the rate then follows the clock), three without one."""
        del rows
        return 3.0 if options.max_seconds is None else 10.0

    def evaluations(self, hyperparameters: Any, steps: int, default: int) -> int:
        """See `Method`; `eval_interval` counts steps."""
        interval = hyperparameters.eval_interval
        return default if interval == "auto" else max(1, steps // int(interval))
