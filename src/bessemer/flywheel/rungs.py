"""Rungs of a route: from a dataset's examples to lessons, from these to a version that answers through the gateway."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bessemer.core.datasets import Example, Split
from bessemer.core.errors import InvalidRequest
from bessemer.core.models import Lineage, ModelVersion
from bessemer.core.routes import ConfidenceScore
from bessemer.core.wire import LadderRequest
from bessemer.engine.rungs import artefact, committee, embedding, spans
from bessemer.engine.rungs.artefact import Artefact
from bessemer.engine.rungs.head import HeadKind, Vectors
from bessemer.engine.rungs.items import item_of
from bessemer.engine.rungs.kinds import MEMBERS, open_rung
from bessemer.engine.rungs.rung import Rung
from bessemer.evals.measures import Metric
from bessemer.evals.runs import ItemScore, SystemAnswer, collect
from bessemer.evals.truth import parse_label, truth
from bessemer.flywheel import standing
from bessemer.flywheel.evaluation import CONCURRENCY, as_answer, ask, file_name, read_journal
from bessemer.flywheel.ladder_outcome import FittedRung, LadderPlan
from bessemer.flywheel.rung_answers import answers
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.unseen import unseen
from bessemer.gateway.cascade import raw_score
from bessemer.registry.versions import make_version
from bessemer.store import files, inferences

if TYPE_CHECKING:
    from bessemer.engine.rungs.embedding import StaticEmbedding
    from bessemer.ladder.lessons import Lesson
    from bessemer.ladder.task import FittedMember, VectorSource

_MOST_LABELS = 1000
_FEW = 20
"""Examples of each label below which vectors of words tell what n-grams do not."""
_DISTILLING_S = 90.0
"""Every token passes the encoder once: 75 s on one core."""
_AT_ONCE = 16
"""Texts whose vectors are made at once."""
METHOD = "ladder"
"""Of a rung's lineage."""


def labels_of(examples: Sequence[Example], request: LadderRequest) -> tuple[str, ...]:
    """Return the answers that there are: those that the request names, else those that feedback says are right.

    Raises InvalidRequest when they are none, one, or too many to be a choice.
    """
    if request.labels or request.metric == "attributes":
        return request.labels
    said = Counter(
        right for one in examples if (right := truth(one.answer, one.verdict, one.demonstration)) is not None
    )
    found = tuple(sorted(label for label in said if label.strip()))
    if len(found) < 2:
        raise InvalidRequest(
            f"The feedback names {len(found)} right answers: rungs choose among at least two. Give feedback, or name "
            "`labels`.",
            param="labels",
        )
    if len(found) > _MOST_LABELS or (len(found) > 50 and len(found) > sum(said.values()) / 2):
        raise InvalidRequest(
            f"The feedback names {len(found):,} different right answers in {sum(said.values()):,} examples: that is "
            "free text, which no rung of a few labels answers; for JSON objects of texts, ask for the metric "
            "'attributes'.",
            param="dataset",
        )
    return found


def lessons_of(examples: Sequence[Example], labels: Sequence[str]) -> "list[Lesson]":
    """Return what examples teach: the right label, or that the answer that was given is wrong; others teach nothing."""
    from bessemer.ladder.lessons import Lesson  # brings scikit-learn, which the API does without

    lessons: list[Lesson] = []
    for one in examples:
        item = item_of(one.input, one.messages)
        right = truth(one.answer, one.verdict, one.demonstration, labels)
        wrong = parse_label(one.answer, labels) if labels and right is None and one.verdict is False else None
        if right is not None:
            lessons.append(Lesson(item, right, 1.0, one.weight))
        elif wrong is not None:
            lessons.append(Lesson(item, wrong, 0.0, one.weight))
    return lessons


def leaks_of(plan: LadderPlan) -> list[str]:
    """Name what would make the rungs' scores look better than they are; see `bessemer.ladder.groups.leaks`."""
    from bessemer.ladder.groups import leaks  # as above

    held_out = [item_of(one.input, one.messages) for one in (*plan.optimise, *plan.calibrate)]
    return leaks(lessons_of(plan.train, plan.labels), held_out)


def fit_one(
    services: FlywheelServices,
    plan: LadderPlan,
    kind: str,
    job_id: str,
    left_s: float,
    folder: Path,
    fitted: Sequence[FittedRung],
) -> FittedRung:
    """Fit one kind and register its version, or say why not.

    What it said out of fold is kept in `folder`: a committee is made of the `fitted` ones that it suits.
    """
    from bessemer.ladder.fit import fit, suits  # as above

    request, lessons = plan.request, lessons_of(plan.train, plan.labels)
    if (kind == spans.KIND) != (request.metric == "attributes"):
        told = "spans answer with JSON objects, other rungs with labels: the metric is another's"
        return FittedRung(kind=kind, version=None, seconds=0.0, skipped=told)
    if kind == spans.KIND:
        return _fit_spans(services, plan, lessons, job_id)
    networks, static = _networks(services, kind, left_s), None
    start = _start(services, plan, kind) if request.refit else None
    try:
        if kind == embedding.KIND:
            static = _static(services, lessons, left_s, asked_for=kind in request.rungs)
        refusal = suits(kind, lessons, static, networks) if left_s > 0 else "no time was left for it; raise `seconds`"
    except InvalidRequest as error:
        refusal = error.message
    if refusal is not None:
        return FittedRung(kind=kind, version=None, seconds=0.0, skipped=refusal)
    try:
        made = fit(
            kind,
            lessons,
            labels=plan.labels,
            positive=request.positive,
            seed=request.seed,
            start=None if start is None else rung_of(services, start),
            written=services.catalog.written_rules(request.route),
            members=_members(services, folder, fitted) if kind == committee.KIND else (),
            networks=networks,
            static=static,
        )
    except InvalidRequest as error:
        return FittedRung(kind=kind, version=None, seconds=0.0, skipped=error.message)
    version = _register(services, plan, made.artefact, job_id, start)
    _out_of_fold(folder, kind).write_bytes(artefact.encode_arrays({"p": made.out_of_fold}))
    return FittedRung(kind=kind, version=version.id, seconds=made.seconds)


def kind_of(version: ModelVersion) -> str | None:
    """Return which kind of rung a version is; None for one that is none."""
    if version.rung_sha256 is None or version.lineage is None:
        return None
    said = (version.lineage.hyperparameters or {}).get("kind")
    return said if isinstance(said, str) else version.lineage.base.removeprefix("rung:")


def rung_of(services: FlywheelServices, version: ModelVersion) -> Rung:
    """Open the rung of a version that is one."""
    assert version.rung_sha256 is not None
    return open_rung(artefact.fetch(services.blobs.read, version.rung_sha256))


def _start(services: FlywheelServices, plan: LadderPlan, kind: str) -> ModelVersion | None:
    """Return the rung of a kind that the route asks now; None where there is none, or one that has seen in training
    what this ladder measures on."""
    name = plan.request.route
    if not services.catalog.has_route(name):
        return None
    asked = [target.model for step in services.catalog.route(name).steps for target in step.targets]
    for version in (services.catalog.resolve(one).version for one in asked):
        if kind_of(version) == kind:
            measured = (*plan.optimise, *plan.calibrate)
            clean = len(unseen(services, (version.id,), measured, Split.CALIBRATION)) == len(measured)
            return version if clean else None
    return None


def _fit_spans(services: FlywheelServices, plan: LadderPlan, lessons: "Sequence[Lesson]", job_id: str) -> FittedRung:
    from bessemer.ladder.spans import fit_spans  # as above

    try:
        made = fit_spans(lessons, seed=plan.request.seed)
    except InvalidRequest as error:
        return FittedRung(kind=spans.KIND, version=None, seconds=0.0, skipped=error.message)
    version = _register(services, plan, made.artefact, job_id)
    return FittedRung(kind=spans.KIND, version=version.id, seconds=made.seconds)


def _static(
    services: FlywheelServices, lessons: "Sequence[Lesson]", left_s: float, *, asked_for: bool
) -> "StaticEmbedding | None":
    """Return the vectors of words, made once for the data folder where there is time for it; None without an encoder.

    Raises InvalidRequest where they are not worth their time.
    """
    from bessemer.ladder.distil import kept  # as above

    folder = services.networks.encoder
    labels = Counter(one.answer for one in lessons if one.right > 0.5)
    if folder is not None and not asked_for and labels and min(labels.values()) >= _FEW:
        raise InvalidRequest(
            f"every label has {_FEW} examples or more, from which on n-grams do as well; name it by `rungs` to have it"
        )
    name = None if folder is None else services.wait(services.networks.name(HeadKind.ENCODER))
    if folder is None or name is None:
        return None
    file = services.networks.static_file(name)
    if not file.exists() and left_s < _DISTILLING_S:
        raise InvalidRequest(
            f"its vectors of words take about {_DISTILLING_S:.0f} s to make, once for this data folder; raise `seconds`"
        )
    return kept(folder, file)


def _out_of_fold(folder: Path, kind: str) -> Path:
    return folder / f"{kind}.out_of_fold"


def _members(services: FlywheelServices, folder: Path, fitted: Sequence[FittedRung]) -> "list[FittedMember]":
    from bessemer.ladder.task import FittedMember  # as above

    found = []
    for one in fitted:
        if one.version is not None and one.kind in MEMBERS:
            sha256 = services.catalog.version(one.version).rung_sha256
            assert sha256 is not None
            kept = artefact.decode_arrays(_out_of_fold(folder, one.kind).read_bytes())
            found.append(FittedMember(artefact.fetch(services.blobs.read, sha256), kept["p"]))
    return found


def _networks(services: FlywheelServices, kind: str, left_s: float) -> "dict[str, VectorSource]":
    """Return what makes the vectors of a head's kind, where it is here; empty for kinds that need none."""
    from bessemer.ladder.task import VectorSource  # as above

    name = services.wait(services.networks.name(HeadKind(kind))) if kind in set(HeadKind) else None
    if name is None:
        return {}
    until = time.monotonic() + left_s

    def vectors(texts: Sequence[str]) -> Vectors:
        began, parts = time.monotonic(), list[Vectors]()
        for at in range(0, len(texts), _AT_ONCE):
            parts.append(services.wait(services.networks.vectors(HeadKind(kind), name, texts[at : at + _AT_ONCE])))
            seconds = (time.monotonic() - began) / min(at + _AT_ONCE, len(texts)) * len(texts)
            if began + seconds > until:
                raise InvalidRequest(f"the vectors of {len(texts)} texts take about {seconds:.0f} s; raise `seconds`")
        return np.concatenate(parts)

    return {kind: VectorSource(name, vectors)}


def _register(
    services: FlywheelServices, plan: LadderPlan, fitted: Artefact, job_id: str, start: ModelVersion | None = None
) -> ModelVersion:
    """Keep an artefact's blobs and its version; the same content gives the same version."""
    manifest, arrays = artefact.encode(fitted)
    services.blobs.put(arrays)
    request, own = plan.request, fitted.manifest
    taught = plan.dataset.files.get(Split.TRAIN)
    lineage = Lineage(
        base=f"rung:{own.kind}" if start is None else start.id,
        dataset_sha256=None if taught is None else files.get(services.database, taught).sha256,
        method=METHOD,
        hyperparameters={"kind": own.kind} | ({"told": told} if (told := open_rung(fitted).told()) else {}),
        seed=request.seed,
        job_id=job_id,
    )
    version = make_version(
        f"{request.route}-{own.kind}",
        choices=() if own.kind == spans.KIND else own.labels,
        choice_bias=own.bias,
        lineage=lineage,
        rung_sha256=services.blobs.put(manifest),
    )
    return services.catalog.register(version)


def recorded(services: FlywheelServices, target: str, examples: Sequence[Example]) -> dict[str, SystemAnswer]:
    """Return what a target has answered to examples already, as traffic recorded it: nobody has to be asked again."""
    versions = standing.versions(services, target)
    own = [one.id for one in examples if one.version in versions and one.answer is not None]
    kept = inferences.get_many(services.database, own)
    return {name: as_answer(one) for name, one in kept.items() if one.error is None and one.version in versions}


def score_all(
    services: FlywheelServices,
    target: str,
    examples: Sequence[Example],
    metric: Metric,
    folder: Path,
    progress: Callable[[int, int], None],
    known: Mapping[str, SystemAnswer],
    score: ConfidenceScore,
    concurrency: int = CONCURRENCY,
) -> tuple[ItemScore, ...]:
    """Ask a target all examples but the `known` ones; what is in `folder` already is not asked again."""
    path = folder / f"{file_name(target)}.jsonl"
    done = read_journal(path, ItemScore)
    waiting = [one for one in examples if one.id not in done and one.id not in known]
    known = dict(known) | _batched(services, target, waiting)

    async def infer(example: Example) -> SystemAnswer:
        if example.id in known:
            return known[example.id]
        inference = await ask(services, target, example, "ladder")
        raw = raw_score(score, inference.calls[-1])
        return msgspec.structs.replace(as_answer(inference), score=raw)

    with path.open("ab", buffering=0) as journal:

        def keep(item: ItemScore) -> None:
            journal.write(msgspec.json.encode(item) + b"\n")

        found: tuple[ItemScore, ...] = services.wait(
            collect(infer, examples, metric, concurrency=concurrency, done=done, progress=progress, on_item=keep)
        )
    return found


def _batched(services: FlywheelServices, target: str, examples: Sequence[Example]) -> dict[str, SystemAnswer]:
    """Return the answers of a target that is a rung; nothing of any other, which has to be asked one by one."""
    if services.catalog.has_route(target):
        return {}
    version = services.catalog.resolve(target).version
    if version.rung_sha256 is None:
        return {}
    said = answers(services, version, examples)
    return {one.id: answer for one, answer in zip(examples, said, strict=False)}
