"""What every grader is: a sample and its item in, a reward in OpenAI's result shape out.

Decides the result's shape and how templates see a sample. Knows no grader kind; those are built in `graders`.
An output that cannot be scored has reward None and at least one error flag, never a default number.
"""

import asyncio
import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import msgspec

from bessemer.core.access import Principal
from bessemer.core.bounds import Name, check_shape
from bessemer.core.errors import GraderError, InvalidRequest
from bessemer.core.template import check, placeholders, render
from bessemer.core.types import JSON, Frozen


class GraderErrors(Frozen, frozen=True):
    """OpenAI's fourteen error fields; a flag that is set says why there is no reward."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None

    @property
    def any(self) -> bool:
        """Whether any flag is set."""
        return any(value is True for value in msgspec.structs.astuple(self))

    def merged(self, other: "GraderErrors") -> "GraderErrors":
        """Return the union of both: flags are or-ed, the first text wins."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True)
        return GraderErrors(**dict(zip(self.__struct_fields__, (a or b for a, b in pairs), strict=True)))


class Failure(Frozen, frozen=True):
    """Why a grader gave no reward: a code that programs can read (the judge's own, or OpenAI's flag) and a sentence."""

    code: str
    message: str


_LIMITS = ("Limit", "Killed", "NoAnswer", "AnswerTooLarge", "BadAnswer")
"""How the names end of what the sandbox says itself."""
_LINE = re.compile(r"line (\d+)")


def _without_content(details: str) -> str:
    """Return what went wrong in a grader's code, and where, without the error's own text: that may quote the answer or
    the item, and a job's events and error are read by those, too, who may not read content.
    """
    kind = details.partition(":")[0]
    if kind.endswith(_LIMITS):
        return details
    lines = _LINE.findall(details)
    return f"{kind} in line {lines[-1]} of its source" if lines else kind


class GradeResult(Frozen, frozen=True):
    """One grade. `reward` None is unscorable; `errors` says why."""

    name: str
    type: str
    reward: float | None
    errors: GraderErrors = GraderErrors()
    sub_rewards: dict[str, float | None] = msgspec.field(default_factory=dict)
    scores: dict[str, Any] = msgspec.field(default_factory=dict)
    execution_time: float = 0.0
    """Seconds."""
    token_usage: int | None = None
    sampled_model_name: str | None = None
    token_usage_per_model: dict[str, int] = msgspec.field(default_factory=dict)
    unknown: bool = False
    """Nothing is wrong, but nobody knows the reward: the feedback does not settle it."""
    reason: Failure | None = None
    """What the flags of `errors` leave out."""

    @property
    def failure(self) -> Failure | None:
        """Why the grader failed; None where there is a reward, and where nobody knows it."""
        if self.reward is not None or self.unknown:
            return None
        if self.reason is not None:
            return self.reason
        flags = msgspec.structs.asdict(self.errors).items()
        code = next((name for name, value in flags if value is True), "other_error")
        details = self.errors.python_grader_runtime_error_details or self.errors.python_grader_server_error_type
        if self.errors.python_grader_runtime_error and details is not None:
            details = _without_content(details)
        said = f"{code}: {details[:300]}" if details else code
        return Failure(code, f"the grader {self.name!r} gave no reward ({said})")

    def wire(self) -> JSON:
        """Return OpenAI's run-grader response. Its reward is not nullable: None is sent as 0.0, `errors` say why."""
        return {
            "reward": 0.0 if self.reward is None else self.reward,
            "sub_rewards": self.sub_rewards,
            "model_grader_token_usage_per_model": self.token_usage_per_model,
            "metadata": {
                "name": self.name,
                "type": self.type,
                "errors": msgspec.to_builtins(self.errors),
                "execution_time": self.execution_time,
                "scores": self.scores,
                "token_usage": self.token_usage,
                "sampled_model_name": self.sampled_model_name,
            },
        }


class JudgeCall(Frozen, frozen=True):
    """What a judge is asked: messages, OpenAI's sampling parameters, and the JSON schema its answer must follow."""

    model: str
    messages: tuple[JSON, ...]
    sampling: JSON
    response_schema: JSON
    principal: Principal | None = None
    """For whom; None: for nobody in particular."""


class JudgeReply(Frozen, frozen=True):
    """A judge's raw answer."""

    text: str | None
    model: str
    total_tokens: int | None = None
    refusal: str | None = None


Judge = Callable[[JudgeCall], Awaitable[JudgeReply]]
Embed = Callable[[list[str]], Awaitable[list[list[float]]]]


TextGrading = Callable[[JSON, str, JSON], GradeResult]
"""Grades a sample and its item by a text grader's JSON. Blocking."""
RuntimeName = Literal["auto", "native", "bubblewrap"]


class Limits(Frozen, frozen=True):
    """What a grader's own code may use."""

    wall_s: float = 5.0
    cpu_s: int = 3
    """Seconds of processor time for one call."""
    memory_mb: int = 1024
    """Memory of all its processes together, and address space of each."""
    disk_mb: int = 64
    """Size of the scratch folder, and of each file."""
    processes: int = 64
    """Processes and threads at once."""
    load_s: float = 10.0
    """Seconds to compile and import the source, once per process; of the clock and of processor time."""
    workers: int = 2
    """Processes kept ready."""


class GraderServices(Frozen, frozen=True):
    """What graders may use of the outside, given by the caller; None refuses the kinds that need it."""

    judge: Judge | None = None
    find_judge: Callable[[str, Principal | None], object] | None = None
    """Raises NotFound for a model that the judge cannot be, for who asks; None: found out when it is asked."""
    principal: Principal | None = None
    """For whom graders work; None: for nobody in particular."""
    embed: Embed | None = None
    limits: Limits = Limits()
    runtime: RuntimeName = "auto"
    """What code graders run in."""
    texts: TextGrading | None = None
    """Where texts are graded; None: here."""
    unfenced: bool = False
    """Whether a caller's code may run where the kernel cannot keep it from this account's files."""

    def asked_by(self, principal: Principal) -> "GraderServices":
        """Return these services with judges that are asked for somebody: with his rights, on his account."""
        judge = self.judge
        if judge is None:
            return self

        async def ask(call: JudgeCall) -> JudgeReply:
            return await judge(msgspec.structs.replace(call, principal=principal))

        return msgspec.structs.replace(self, judge=ask, principal=principal)


class Unscorable(Exception):
    """Raised inside a grader when there is no reward; carries the flags for the result, and what they leave out."""

    def __init__(self, errors: GraderErrors, reason: Failure | None = None) -> None:
        super().__init__("unscorable")
        self.errors = errors
        self.reason = reason


_SAMPLE_FIELDS = ("output_text", "output_json")
LARGEST_BODY = 4 << 20
"""Bytes of a request with a grader, its sample and item."""
MAX_TEMPLATE = 64_000
"""Characters of one template."""


def check_template(template: str, where: str) -> str:
    """Return a grader's template; raises GraderError for what no sample and item can fill. `where` names the field."""
    if len(template) > MAX_TEMPLATE:
        raise GraderError(
            f"{where} has {len(template)} characters; a template may have {MAX_TEMPLATE}. Shorten it.", param=where
        )
    try:
        check(template, ("item", "sample"))
    except InvalidRequest as error:
        raise GraderError(f"{where}: {error.message}", param=where) from None
    for path in placeholders(template):
        root, _, rest = path.partition(".")
        if root == "sample" and rest.split(".")[0] not in ("", *_SAMPLE_FIELDS):
            known = " and ".join(f"sample.{name}" for name in _SAMPLE_FIELDS)
            raise GraderError(f"{where} refers to {path!r}; a sample has {known}.", param=where)
    return template


def scope_of(sample: str, item: JSON) -> JSON:
    """Return what templates see: `item`, `sample.output_text`, and `sample.output_json` when the sample is JSON.

    What exceeds the bounds on JSON (`core.bounds`) is none.
    """
    namespace: JSON = {"output_text": sample}
    with contextlib.suppress(msgspec.DecodeError):
        check_shape(data := sample.encode(errors="replace"))
        namespace["output_json"] = msgspec.json.decode(data)
    return {"item": item, "sample": namespace}


def fill(template: str, scope: JSON) -> str:
    """Render a grader's template; raises Unscorable naming what is missing: the sample's JSON, or a variable."""
    try:
        return render(template, scope)
    except InvalidRequest as error:
        of_sample = (error.param or "").startswith("sample.output_json")
        errors = GraderErrors(sample_parse_error=of_sample, invalid_variable_error=not of_sample)
        code = "sample_parse_error" if of_sample else "invalid_variable_error"
        raise Unscorable(errors, Failure(code, error.message)) from error


class Grader(ABC):
    """Turns an output and its item into a reward. User code behind it is never trusted."""

    def __init__(self, name: str, type_: str) -> None:
        self.name = name
        self.type = type_

    @abstractmethod
    async def grade(self, sample: str, item: JSON) -> GradeResult:
        """Grade one output; never raises for what the sample, the item or user code does."""

    async def grade_many(self, pairs: Sequence[tuple[str, JSON]], concurrency: int = 8) -> list[GradeResult]:
        """Grade outputs in order, at most `concurrency` at a time."""
        gate = asyncio.Semaphore(concurrency)

        async def one(sample: str, item: JSON) -> GradeResult:
            async with gate:
                return await self.grade(sample, item)

        return list(await asyncio.gather(*(one(sample, item) for sample, item in pairs)))

    def unscored(self, problem: Unscorable) -> GradeResult:
        """Return the result of an output without a reward."""
        return GradeResult(name=self.name, type=self.type, reward=None, errors=problem.errors, reason=problem.reason)

    def check(self) -> None:
        """Raise GraderError when the grader can never work (formula, source); the default finds nothing."""
        return

    def close(self) -> None:
        """Give back processes; safe to call twice."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class GraderSpec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A grader as a request writes it; a kind adds its fields in a subclass. Unknown ones are refused."""

    type: Name
    name: Name = ""
    """Of the grader; default: its type."""


class GraderKind(NamedTuple):
    """One kind of grader: a line in the table of `graders`."""

    name: str
    """In a grader's `type`."""
    spec: type[GraderSpec]
    make: Callable[[Any, GraderServices, str], Grader]
    """From a spec, what graders may use, and the grader's place in the request. Raises GraderError that names the field
    below that place; blocking. `input` and `reference` have been checked as templates."""
