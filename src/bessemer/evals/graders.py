"""From a grader's JSON to a Grader, by a table of kinds: OpenAI's, Bedrock's reward function, Bessemer's own two.

`build` refuses wrong structure by name; `check` also refuses what could never give a reward. OpenAI's three forms of
`multi.graders` (one object, a list, a dict by name) are all accepted.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bessemer.core.bounds import Name
from bessemer.core.errors import GraderError, InvalidRequest, NotFound
from bessemer.core.types import JSON
from bessemer.evals.apart import TEXT_KINDS, Apart
from bessemer.evals.code import MAX_SOURCE, LambdaGrader, PythonGrader
from bessemer.evals.grader import Grader, GradeResult, GraderKind, GraderServices, GraderSpec, check_template
from bessemer.evals.judge import ScoreModel, message_text
from bessemer.evals.learned import AttributesGrader, FeedbackGrader
from bessemer.evals.multi import Multi
from bessemer.evals.sandbox import SandboxError, isolation
from bessemer.evals.similarity import SIMILARITIES
from bessemer.evals.text import StringCheck, TextSimilarity
from bessemer.evals.truth import check_labels

_MAX_PARTS = 16
"""Graders of a multi grader: each that runs code keeps processes of its own."""
_OUTPUT = "{{sample.output_text}}"


class StringCheckSpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """Compares two texts: 1 or 0."""

    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class TextSimilaritySpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """Measures how alike two texts are."""

    input: str
    reference: str
    evaluation_metric: str


class PythonSpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """Runs the caller's `grade(sample, item)`, in a sandbox."""

    source: str
    image_tag: str | None = None


class JudgeSampling(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a judge is asked."""

    seed: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    max_completions_tokens: int | None = None
    reasoning_effort: str | None = None


class JudgeMessage(msgspec.Struct, kw_only=True):
    """One message to a judge."""

    role: str
    content: Any
    type: str | None = None


class ScoreModelSpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """Asks a model for a number in a range."""

    model: Name
    input: list[JudgeMessage]
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: JudgeSampling | None = None


class MultiSpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """Joins graders by a formula."""

    graders: Any
    calculate_output: str


class LambdaSpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """Runs a reward function in Bedrock's form, in a sandbox."""

    source: str
    handler: str = "lambda_handler"


class FeedbackSpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """Pays what feedback says of an answer."""

    labels: list[str] = msgspec.field(default_factory=list)
    input: str = _OUTPUT


class AttributesSpec(GraderSpec, kw_only=True, forbid_unknown_fields=True):
    """F1 of the attributes in a JSON answer."""

    input: str = _OUTPUT
    reference: str = "{{item.target}}"


def _string_check(spec: StringCheckSpec, _: GraderServices, __: str) -> Grader:
    return StringCheck(spec.name, text=spec.input, reference=spec.reference, operation=spec.operation)


def _text_similarity(spec: TextSimilaritySpec, services: GraderServices, path: str) -> Grader:
    known = (*SIMILARITIES, "cosine")
    if spec.evaluation_metric not in known:
        raise GraderError(
            f"{path}.evaluation_metric is {spec.evaluation_metric!r}; use one of {', '.join(known)}.",
            param=f"{path}.evaluation_metric",
        )
    cosine = spec.evaluation_metric == "cosine"
    if cosine and services.embed is None:
        raise GraderError(
            f"{path}.evaluation_metric 'cosine' compares embeddings, and no embedding model is offered "
            f"(the setting embedding_model); use one of {', '.join(SIMILARITIES)}.",
            param=f"{path}.evaluation_metric",
        )
    return TextSimilarity(
        spec.name,
        text=spec.input,
        reference=spec.reference,
        metric=spec.evaluation_metric,
        embed=services.embed if cosine else None,
    )


def _check_code(source: str, services: GraderServices, path: str) -> None:
    """Refuse a caller's code where it could leave its fence: the admin key is one of this account's files."""
    size = len(source.encode(errors="replace"))
    if size > MAX_SOURCE:
        raise GraderError(
            f"{path}.source has {size} bytes; a grader's source may have {MAX_SOURCE}. Shorten it.",
            param=f"{path}.source",
        )
    if services.unfenced:
        return
    try:
        fenced, reason = isolation(services.runtime).fenced, "this machine's kernel cannot keep code from its files"
    except SandboxError as error:
        fenced, reason = False, f"no sandbox starts on this machine ({error})"
    if not fenced:
        raise GraderError(
            f"{path}.type runs code, and {reason}; use another grader or a machine with namespaces or Landlock and "
            "seccomp, or set unfenced_graders = true where every caller may read all of the server's files.",
            param=f"{path}.type",
        )


def _python(spec: PythonSpec, services: GraderServices, path: str) -> Grader:
    if spec.image_tag is not None:
        raise GraderError(
            f"{path}.image_tag names one of OpenAI's images; graders run in this installation's Python: leave it out.",
            param=f"{path}.image_tag",
        )
    _check_code(spec.source, services, path)
    return PythonGrader(spec.name, source=spec.source, services=services)


def _score_model(spec: ScoreModelSpec, services: GraderServices, path: str) -> Grader:
    low, high = spec.range
    if not low < high:
        raise GraderError(f"{path}.range is [{low}, {high}]; the first must be the smaller.", param=f"{path}.range")
    sampling = spec.sampling_params or JudgeSampling()
    if sampling.reasoning_effort is not None:
        raise GraderError(
            f"{path}.sampling_params.reasoning_effort is not supported: judges are asked without it; leave it out.",
            param=f"{path}.sampling_params.reasoning_effort",
        )
    if services.judge is None:
        raise GraderError(
            f"{path}.type 'score_model' needs a judge and this place has none; use it where models can be called.",
            param=f"{path}.type",
        )
    if services.find_judge is not None:
        try:
            services.find_judge(spec.model, services.principal)
        except NotFound as error:
            raise GraderError(f"{path}.model: {error.message}", param=f"{path}.model") from None
    texts = [message_text(message.content) for message in spec.input]
    if None in texts:
        where = f"{path}.input.{texts.index(None)}.content"
        raise GraderError(f"{where} must be text or parts of type 'input_text'.", param=where)
    for number, text in enumerate(texts):
        check_template(text or "", f"{path}.input.{number}.content")
    return ScoreModel(
        spec.name,
        model=spec.model,
        messages=[{"role": message.role, "content": text} for message, text in zip(spec.input, texts, strict=True)],
        sampling=msgspec.to_builtins(sampling),
        low=low,
        high=high,
        judge=services.judge,
    )


def _multi(spec: MultiSpec, services: GraderServices, path: str) -> Grader:
    parts = _parts(spec.graders, f"{path}.graders")
    built: dict[str, Grader] = {}
    try:
        for key, part in parts.items():
            if part.get("type") == "multi":
                raise GraderError(f"{path}.graders.{key} is a multi grader; multi does not nest.", param=path)
            built[key] = _build({**part, "name": part.get("name") or key}, services, f"{path}.graders.{key}")
    except BaseException:
        for grader in built.values():
            grader.close()
        raise
    return Multi(spec.name, graders=built, calculate_output=spec.calculate_output)


def _parts(graders: Any, path: str) -> dict[str, JSON]:
    """Return grader JSON by name from OpenAI's three forms."""
    if isinstance(graders, dict) and isinstance(graders.get("type"), str):
        graders = [graders]
    if isinstance(graders, list):
        named = [(str(part.get("name") or "") if isinstance(part, dict) else "", part) for part in graders]
        if len({name for name, _ in named}) < len(named) or any(not name for name, _ in named):
            raise GraderError(f"{path} is a list; give each grader a name of its own.", param=path)
        graders = dict(named)
    if isinstance(graders, dict) and len(graders) > _MAX_PARTS:
        raise GraderError(f"{path} holds {len(graders)} graders; a multi grader takes {_MAX_PARTS}.", param=path)
    if not isinstance(graders, dict) or not graders or not all(isinstance(part, dict) for part in graders.values()):
        raise GraderError(f"{path} must hold at least one grader: an object, a list, or a dict by name.", param=path)
    return graders


def _lambda(spec: LambdaSpec, services: GraderServices, path: str) -> Grader:
    _check_code(spec.source, services, path)
    return LambdaGrader(spec.name, source=spec.source, handler=spec.handler, services=services)


def _feedback(spec: FeedbackSpec, _: GraderServices, path: str) -> Grader:
    try:
        check_labels(spec.labels, f"{path}.labels")
    except InvalidRequest as error:
        raise GraderError(error.message, param=error.param) from None
    if len(spec.labels) == 1:
        raise GraderError(f"{path}.labels must be at least two.", param=f"{path}.labels")
    return FeedbackGrader(spec.name, text=spec.input, labels=spec.labels)


def _attributes(spec: AttributesSpec, _: GraderServices, __: str) -> Grader:
    return AttributesGrader(spec.name, text=spec.input, reference=spec.reference)


_TABLE: dict[str, GraderKind] = {
    kind.name: kind
    for kind in (
        GraderKind("string_check", StringCheckSpec, _string_check),
        GraderKind("text_similarity", TextSimilaritySpec, _text_similarity),
        GraderKind("python", PythonSpec, _python),
        GraderKind("score_model", ScoreModelSpec, _score_model),
        GraderKind("multi", MultiSpec, _multi),
        GraderKind("lambda", LambdaSpec, _lambda),
        GraderKind("feedback", FeedbackSpec, _feedback),
        GraderKind("attributes", AttributesSpec, _attributes),
    )
}


def register(kind: GraderKind) -> None:
    """Add a kind to the table. Raises ValueError when its name is taken."""
    if kind.name in _TABLE:
        raise ValueError(f"there is a kind of grader {kind.name!r} already")
    _TABLE[kind.name] = kind


def kinds() -> tuple[GraderKind, ...]:
    """Return the table."""
    return tuple(_TABLE.values())


def _build(grader: JSON, services: GraderServices, path: str) -> Grader:
    name = grader.get("type") if isinstance(grader, dict) else None
    if not isinstance(name, str) or name not in _TABLE:
        raise GraderError(f"{path}.type is {name!r}; use one of {', '.join(_TABLE)}.", param=f"{path}.type")
    kind = _TABLE[name]
    try:
        spec = msgspec.convert(grader, kind.spec)
    except msgspec.ValidationError as error:
        raise GraderError(f"{path} ({name}) is wrong: {error}.", param=path) from error
    spec.name = spec.name or name
    for field in ("input", "reference"):
        if isinstance(template := getattr(spec, field, None), str):
            check_template(template, f"{path}.{field}")
    made = kind.make(spec, services, path)
    if services.texts is None or name not in TEXT_KINDS or grader.get("evaluation_metric") == "cosine":
        return made
    return Apart(made.name, grader, services.texts)


_DEFAULT_SERVICES = GraderServices()


def build(grader: JSON, services: GraderServices = _DEFAULT_SERVICES) -> Grader:
    """Build a grader from its JSON. Raises GraderError naming the field and the remedy.

    Close it (or use `with`) when done: code graders keep processes.
    """
    return _build(grader, services, "grader")


def check(grader: JSON, services: GraderServices = _DEFAULT_SERVICES) -> None:
    """Raise GraderError when the grader is wrong in structure, or can never give a reward (formula, source)."""
    with build(grader, services) as built:
        built.check()


def grade_text(event: JSON, _context: None) -> JSON:
    """Grade one output with a text grader, in a process of `TextProcesses`; such a grader waits for nothing."""
    grading = build(event["grader"]).grade(event["sample"], event["item"])
    try:
        grading.send(None)
    except StopIteration as done:
        answer: JSON = msgspec.to_builtins(done.value)
        return answer
    raise AssertionError("a text grader waits for nothing")


def grade_batch(grader: Grader, pairs: Sequence[tuple[str, JSON]], concurrency: int = 8) -> list[GradeResult]:
    """Grade outputs in order from code without an event loop."""
    return asyncio.run(grader.grade_many(pairs, concurrency))
