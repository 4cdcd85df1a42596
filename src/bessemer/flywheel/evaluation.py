"""Evaluation: versions and routes scored on one split of a frozen dataset, through the gateway, with intervals.

Every answer is recorded like any other inference, with `origin` evaluation so that it never becomes training data.
Item scores are appended to a file as they come: an interrupted evaluation continues after the last one.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from bessemer.core.content import content_hash, input_hash
from bessemer.core.datasets import Dataset, Example, Split
from bessemer.core.errors import BessemerError, InvalidRequest, ProviderError, RateLimited
from bessemer.core.evaluations import Evaluation, EvaluationRow, GateResult
from bessemer.core.inferences import Inference
from bessemer.core.types import JSON
from bessemer.core.wire import EvaluationRequest, MetricName
from bessemer.evals import graders, measures, runs
from bessemer.evals.gate import non_inferiority
from bessemer.evals.grader import GraderServices
from bessemer.evals.propensity import logged_accuracy
from bessemer.evals.truth import check_labels
from bessemer.feedback import datasets
from bessemer.flywheel import standing
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.unseen import unseen
from bessemer.registry.policy import GatePolicy
from bessemer.store import datasets as dataset_rows
from bessemer.store import looks
from bessemer.store.looks import Look, Purpose


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Journaled = TypeVar("Journaled", bound=_HasId)
CONCURRENCY = 32
"""Items asked at once: enough to fill the engine's batches."""
_MOST_SYSTEMS = 100
"""Each is asked every item; more than that is several evaluations."""
_PAUSES_S = (1, 2, 4, 8, 16, 32)
"""A job asks again after these, half of each at random: together as long as the minute that limits count by."""


def build_metric(
    name: MetricName, labels: Sequence[str], positive: str | None, grader: JSON | None, services: GraderServices
) -> measures.Metric:
    """Return the metric a request describes. Raises InvalidRequest that names the missing field."""
    if name in ("accuracy", "f1") and not labels:
        raise InvalidRequest(f"The metric {name!r} needs `labels`: the answers it may meet.", param="labels")
    check_labels(labels)
    if len(labels) == 1:
        raise InvalidRequest(
            "`labels` has one label, which every answer would be or not: give all of them.", param="labels"
        )
    match name:
        case "f1":
            if positive is None or positive not in labels:
                raise InvalidRequest("The metric 'f1' needs `positive`, one of `labels`.", param="positive")
            return measures.LabelF1(tuple(labels), positive)
        case "accuracy":
            return measures.LabelAccuracy(tuple(labels))
        case "attributes":
            return measures.AttributeF1()
        case "reward":
            if grader is None:
                raise InvalidRequest("The metric 'reward' needs `grader`.", param="grader")
            return measures.GraderReward(graders.build(grader, services))


def request_metric(request: EvaluationRequest, services: FlywheelServices) -> measures.Metric:
    """Return the metric of a request. Raises InvalidRequest."""
    return build_metric(request.metric, request.labels, request.positive, request.grader, services.graders)


def check(request: EvaluationRequest, services: FlywheelServices) -> Dataset:
    """Refuse a request that cannot run: unknown dataset, target or gate name. Returns the dataset."""
    dataset = dataset_rows.get(services.database, request.dataset)
    if not request.systems:
        raise InvalidRequest("Name at least one of `systems` to evaluate.", param="systems")
    if len(request.systems) > _MOST_SYSTEMS:
        raise InvalidRequest(
            f"`systems` has {len(request.systems)} names; an evaluation takes {_MOST_SYSTEMS}.", param="systems"
        )
    for target in request.systems:
        services.check_may_ask(target)
        services.catalog.route_or_target(target)
    services.catalog.gate_policy.margin_of(request.margin)
    if request.limit is not None and request.limit < 1:
        raise InvalidRequest(f"`limit` must be at least 1, not {request.limit}; leave it out for all.", param="limit")
    if (request.candidate is None) != (request.reference is None):
        raise InvalidRequest("A gate needs both `candidate` and `reference`.", param="candidate")
    for field, name in (("candidate", request.candidate), ("reference", request.reference)):
        if name is not None and name not in request.systems:
            raise InvalidRequest(f"The gate's {field} {name!r} is not one of `systems`.", param=field)
    if request.candidate is not None and request.candidate == request.reference:
        raise InvalidRequest(
            f"The gate's reference {request.reference!r} is the candidate itself, which is never worse: name another.",
            param="reference",
        )
    if request.temperature is not None and not 0 <= request.temperature <= 2:
        raise InvalidRequest(
            f"`temperature` must be from 0 to 2, not {request.temperature:g}; leave it out for each system's own.",
            param="temperature",
        )
    if request.candidate is not None:
        _check_gate(request, services)
    request_metric(request, services)
    return dataset


def _check_gate(request: EvaluationRequest, services: FlywheelServices) -> None:
    """Refuse a gate that could not count: on items that the requester picked, or against another reference."""
    if request.split is not Split.HOLDOUT:
        raise InvalidRequest(
            f"A gate asks the hold-out split alone, not {request.split.value!r}: versions are chosen on the others.",
            param="split",
        )
    if request.limit is not None:
        raise InvalidRequest("A gate asks all of the hold-out split: leave `limit` out.", param="limit")
    if request.temperature is not None:
        raise InvalidRequest("A gate asks each system as it serves: leave `temperature` out.", param="temperature")
    assert request.candidate is not None and request.reference is not None
    if services.catalog.has_route(request.candidate):
        return
    version = services.catalog.resolve(request.candidate).version
    for param, refusal in (
        ("dataset", standing.dataset_refusal(services, version, request.dataset)),
        ("reference", standing.reference_refusal(services, version, request.reference)),
    ):
        if refusal is not None:
            raise InvalidRequest(f"This gate would not count for {version.id}: {refusal}.", param=param)


def lacking(services: FlywheelServices, request: EvaluationRequest) -> str | None:
    """Say what an evaluation's gate lacks, as things are, to count for a promotion; None: nothing, or there is none."""
    if request.candidate is None or services.catalog.has_route(request.candidate):
        return None
    version = services.catalog.resolve(request.candidate).version
    found = (
        standing.unapproved(services, version, request.dataset),
        standing.own_grader(services, request.metric, services.principal.on_behalf_of),
    )
    return "; ".join(reason for reason in found if reason is not None) or None


def split_examples(
    services: FlywheelServices, dataset: Dataset, split: Split, limit: int | None = None
) -> tuple[Example, ...]:
    """Return a split's examples in their frozen order. Raises InvalidRequest when it is empty."""
    examples = datasets.load(services.blobs, dataset, split)[:limit]
    if not examples:
        raise InvalidRequest(f"The dataset {dataset.id!r} has no examples in split {split.value!r}.", param="split")
    return examples


def scored_examples(services: FlywheelServices, request: EvaluationRequest, dataset: Dataset) -> tuple[Example, ...]:
    """Return the examples that all systems are scored on: those that none was trained on, unless that is asked for."""
    examples = split_examples(services, dataset, request.split, request.limit)
    return examples if request.split is Split.TRAIN else unseen(services, request.systems, examples, request.split)


def left_out(services: FlywheelServices, request: EvaluationRequest, dataset: Dataset) -> int:
    """Return how many examples of the split are not scored, because a system has seen their input."""
    asked = split_examples(services, dataset, request.split, request.limit)
    return len(asked) - len(scored_examples(services, request, dataset))


async def ask(
    services: FlywheelServices,
    target: str,
    example: Example,
    purpose: str,
    *,
    logprobs: bool = False,
    temperature: float | None = None,
) -> Inference:
    """Put one example to a target, as recorded internal traffic; an upstream is asked for `logprobs`.

    Without a `temperature` it answers at its own, as it does for a client that asks for none.
    What may pass (a limit, an upstream that is down) is waited out for a minute before it is raised.
    """
    for pause in _PAUSES_S:
        try:
            return await _ask_once(services, target, example, purpose, logprobs=logprobs, temperature=temperature)
        except BessemerError as error:
            if not _may_pass(error):
                raise
        # Not all at once: those that wait would meet the limit together again.
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
    return await _ask_once(services, target, example, purpose, logprobs=logprobs, temperature=temperature)


def _may_pass(error: BessemerError) -> bool:
    return error.retryable if isinstance(error, ProviderError) else isinstance(error, RateLimited)


async def _ask_once(
    services: FlywheelServices,
    target: str,
    example: Example,
    purpose: str,
    *,
    logprobs: bool,
    temperature: float | None,
) -> Inference:
    return await services.gateway.infer(
        target,
        input=example.input,
        messages=example.messages if example.input is None else (),
        temperature=temperature,
        logprobs=logprobs,
        origin=purpose,
        principal=services.principal,
    )


def as_answer(inference: Inference) -> runs.SystemAnswer:
    """Return what scoring needs of a recorded inference."""
    final = inference.calls[-1]
    return runs.SystemAnswer(
        text=inference.output,
        version=inference.version,
        cost_usd=inference.cost_usd,
        input_tokens=inference.input_tokens,
        output_tokens=inference.output_tokens,
        latency_s=inference.latency_s,
        provider=final.provider,
        score=final.score,
        confidence=final.confidence,
        accepted=len(inference.calls) == 1,
        temperature=final.temperature,
        error=inference.error,
    )


def evaluate_target(
    services: FlywheelServices,
    request: EvaluationRequest,
    dataset: Dataset,
    target: str,
    folder: Path,
    progress: Callable[[int, int], None],
) -> runs.Run:
    """Score one target on the split; item scores already in `folder` are not asked again."""
    examples = scored_examples(services, request, dataset)
    path = folder / f"{file_name(target)}.jsonl"
    done = read_journal(path, runs.ItemScore)

    async def infer(example: Example) -> runs.SystemAnswer:
        return as_answer(await ask(services, target, example, "evaluation", temperature=request.temperature))

    with path.open("ab", buffering=0) as journal:

        def keep(item: runs.ItemScore) -> None:
            journal.write(msgspec.json.encode(item) + b"\n")

        run: runs.Run = services.wait(
            runs.evaluate(
                infer,
                examples,
                request_metric(request, services),
                name=target,
                concurrency=CONCURRENCY,
                done=done,
                progress=progress,
                on_item=keep,
                seed=request.seed,
            )
        )
    if run.row.unknown and run.row.version is not None and request.metric == "accuracy":
        estimate = logged_accuracy(examples, run.row.version, seed=request.seed)
        run = msgspec.structs.replace(run, row=msgspec.structs.replace(run.row, estimate=estimate))
    return run


def file_name(target: str) -> str:
    """Return a target's name as a file name, another for each target: one journal must not hold two systems' scores."""
    readable = "".join(character if character.isalnum() or character in "-_." else "_" for character in target)
    return f"{readable[:80]}-{content_hash(target)[:12]}"


def read_journal(path: Path, kind: type[Journaled]) -> dict[str, Journaled]:
    """Read a journal of items by id; a half-written last line (the process was killed) is dropped from the file."""
    if not path.exists():
        return {}
    items: dict[str, Journaled] = {}
    complete = b""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            item = msgspec.json.decode(line, type=kind)
            items[item.id] = item
            complete += line
    path.write_bytes(complete)
    return items


def enter_look(services: FlywheelServices, job_id: str, request: EvaluationRequest) -> int:
    """Enter the evaluation in the ledger of looks at its items and return its number; 0 where none is spent.

    To be called before the first item is asked: answers and progress can be read as they come, so a look is spent
    whatever becomes of the evaluation. Each version that could be chosen because of its score counts: on the hold-out
    split the tuned ones, which a gate can be about; on the calibration split all, which a cascade can ask first.
    """
    if request.split not in (Split.HOLDOUT, Split.CALIBRATION):
        return 0
    subject = candidate(services, request)
    gated = {name for name in (request.candidate, request.reference) if name is not None}
    fixed = {version for name in gated for version in standing.versions(services, name)}
    read = {version for name in request.systems for version in standing.versions(services, name)} - fixed
    if request.split is Split.HOLDOUT:
        read = {version for version in read if standing.tuned(services.catalog.version(version))}
    if subject is None and not read:
        return 0
    dataset = dataset_rows.get(services.database, request.dataset)
    examples = scored_examples(services, request, dataset)
    look = Look(
        id=job_id,
        created_at=time.time(),
        purpose=Purpose.SCORES if subject is None else Purpose.GATE,
        subject=subject,
        others=tuple(sorted(read)),
    )
    return looks.number(services.database, look, [item_hash(example) for example in examples])


def candidate(services: FlywheelServices, request: EvaluationRequest) -> str | None:
    """Return the version that the gate is about, the name of a route of several; None: there is no gate."""
    return None if request.candidate is None else standing.means(services, request.candidate)


def item_hash(example: Example) -> str:
    """Return what makes two examples the same item: a hash of the input."""
    return input_hash(example.input, example.messages)[:32]


def gate(
    request: EvaluationRequest, results: Mapping[str, runs.Run], policy: GatePolicy, look: int, subject: str | None
) -> GateResult | None:
    """Apply the operator's non-inferiority rule to the scored targets.

    It is about a version when the candidate stands for that one alone (`subject`) and it gave all answers.
    """
    if request.candidate is None or request.reference is None:
        return None
    candidate, reference = results[request.candidate], results[request.reference]
    result = non_inferiority(
        [item.score for item in candidate.items],
        [item.score for item in reference.items],
        metric=request.metric,
        margin=policy.margin_of(request.margin),
        alpha=policy.alpha,
        look=look,
        min_items=policy.min_items,
        min_discordant=policy.min_discordant,
        same=[a.answer.text == b.answer.text for a, b in zip(candidate.items, reference.items, strict=True)],
    )
    return msgspec.structs.replace(
        result,
        candidate=subject if subject == candidate.row.version else request.candidate,
        reference=reference.row.version or request.reference,
    )


def summarise(
    evaluation_id: str,
    request: EvaluationRequest,
    results: Sequence[runs.Run],
    now: float,
    policy: GatePolicy,
    look: int,
    subject: str | None,
    left_out: int,
) -> Evaluation:
    """Return the evaluation: a row per target, the gate's result, and how many examples were left out."""
    by_name = {run.row.name: run for run in results}
    return Evaluation(
        id=evaluation_id,
        dataset=request.dataset,
        split=request.split,
        metric=request.metric,
        created_at=now,
        rows=tuple(_with_share(run) for run in results),
        gate=gate(request, by_name, policy, look, subject),
        left_out=left_out,
    )


def _with_share(run: runs.Run) -> EvaluationRow:
    answered = [item.answer.accepted for item in run.items if item.answer.accepted is not None]
    if not answered or all(answered):
        return run.row
    return msgspec.structs.replace(run.row, small_share=sum(answered) / len(answered))
