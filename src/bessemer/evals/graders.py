"""From a grader's JSON to a Grader: OpenAI's kinds, Bedrock's reward function, Bessemer's own two.

`build` refuses wrong structure by name; `check` also refuses what could never give a reward. OpenAI's three forms of
`multi.graders` (one object, a list, a dict by name) are all accepted.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from bessemer.core.bounds import Name
from bessemer.core.errors import GraderError, InvalidRequest, NotFound
from bessemer.core.types import JSON
from bessemer.evals.apart import TEXT_KINDS, Apart
from bessemer.evals.code import MAX_SOURCE, LambdaGrader, PythonGrader
from bessemer.evals.grader import Grader, GradeResult, GraderServices, check_template
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


class _Spec(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields of all kinds; the kinds below are the edge's exact schema."""

    type: Name
    name: Name = ""


class _StringCheck(_Spec, kw_only=True, forbid_unknown_fields=True):
    input: str
    reference: str
    operation: Literal["eq", "ne", "like", "ilike"]


class _TextSimilarity(_Spec, kw_only=True, forbid_unknown_fields=True):
    input: str
    reference: str
    evaluation_metric: str


class _Python(_Spec, kw_only=True, forbid_unknown_fields=True):
    source: str
    image_tag: str | None = None


class _Sampling(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    seed: int | None = None
    top_p: float | None = None
    temperature: float | None = None
    max_completions_tokens: int | None = None
    reasoning_effort: str | None = None


class _Message(msgspec.Struct, kw_only=True):
    role: str
    content: Any
    type: str | None = None


class _ScoreModel(_Spec, kw_only=True, forbid_unknown_fields=True):
    model: Name
    input: list[_Message]
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: _Sampling | None = None


class _Multi(_Spec, kw_only=True, forbid_unknown_fields=True):
    graders: Any
    calculate_output: str


class _Lambda(_Spec, kw_only=True, forbid_unknown_fields=True):
    source: str
    handler: str = "lambda_handler"


class _Feedback(_Spec, kw_only=True, forbid_unknown_fields=True):
    labels: list[str] = []
    input: str = _OUTPUT


class _Attributes(_Spec, kw_only=True, forbid_unknown_fields=True):
    input: str = _OUTPUT
    reference: str = "{{item.target}}"


def _string_check(spec: _StringCheck, _: GraderServices, __: str) -> Grader:
    return StringCheck(spec.name, text=spec.input, reference=spec.reference, operation=spec.operation)


def _text_similarity(spec: _TextSimilarity, services: GraderServices, path: str) -> Grader:
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


def _python(spec: _Python, services: GraderServices, path: str) -> Grader:
    if spec.image_tag is not None:
        raise GraderError(
            f"{path}.image_tag names one of OpenAI's images; graders run in this installation's Python: leave it out.",
            param=f"{path}.image_tag",
        )
    _check_code(spec.source, services, path)
    return PythonGrader(spec.name, source=spec.source, services=services)


def _score_model(spec: _ScoreModel, services: GraderServices, path: str) -> Grader:
    low, high = spec.range
    if not low < high:
        raise GraderError(f"{path}.range is [{low}, {high}]; the first must be the smaller.", param=f"{path}.range")
    sampling = spec.sampling_params or _Sampling()
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


def _multi(spec: _Multi, services: GraderServices, path: str) -> Grader:
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


def _lambda(spec: _Lambda, services: GraderServices, path: str) -> Grader:
    _check_code(spec.source, services, path)
    return LambdaGrader(spec.name, source=spec.source, handler=spec.handler, services=services)


def _feedback(spec: _Feedback, _: GraderServices, path: str) -> Grader:
    try:
        check_labels(spec.labels, f"{path}.labels")
    except InvalidRequest as error:
        raise GraderError(error.message, param=error.param) from None
    if len(spec.labels) == 1:
        raise GraderError(f"{path}.labels must be at least two.", param=f"{path}.labels")
    return FeedbackGrader(spec.name, text=spec.input, labels=spec.labels)


def _attributes(spec: _Attributes, _: GraderServices, __: str) -> Grader:
    return AttributesGrader(spec.name, text=spec.input, reference=spec.reference)


_KINDS: Mapping[str, tuple[type[_Spec], Callable[[Any, GraderServices, str], Grader]]] = {
    "string_check": (_StringCheck, _string_check),
    "text_similarity": (_TextSimilarity, _text_similarity),
    "python": (_Python, _python),
    "score_model": (_ScoreModel, _score_model),
    "multi": (_Multi, _multi),
    "lambda": (_Lambda, _lambda),
    "feedback": (_Feedback, _feedback),
    "attributes": (_Attributes, _attributes),
}


def _build(grader: JSON, services: GraderServices, path: str) -> Grader:
    kind = grader.get("type") if isinstance(grader, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise GraderError(f"{path}.type is {kind!r}; use one of {', '.join(_KINDS)}.", param=f"{path}.type")
    schema, make = _KINDS[kind]
    try:
        spec = msgspec.convert(grader, schema)
    except msgspec.ValidationError as error:
        raise GraderError(f"{path} ({kind}) is wrong: {error}.", param=path) from error
    spec.name = spec.name or kind
    for field in ("input", "reference"):
        if isinstance(template := getattr(spec, field, None), str):
            check_template(template, f"{path}.{field}")
    made = make(spec, services, path)
    if services.texts is None or kind not in TEXT_KINDS or grader.get("evaluation_metric") == "cosine":
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
