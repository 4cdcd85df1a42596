"""What a version must have shown before it serves: a gate that stands by the operator's policy.

A gate stands for exactly one candidate, against the present champion of its model (while there is none, against the
incumbent), on the hold-out split of a dataset that the operator has not ruled out, within the operator's margin.
"""

from bessemer.core.access import Action, project
from bessemer.core.datasets import Split
from bessemer.core.errors import BessemerError, Conflict, NotFound
from bessemer.core.evaluations import Evaluation
from bessemer.core.models import ModelVersion
from bessemer.core.routes import Route, Target
from bessemer.flywheel.services import FlywheelServices
from bessemer.identity.keys import principal_of
from bessemer.registry.catalog import CHAMPION
from bessemer.registry.policy import GatePin
from bessemer.store import datasets as dataset_rows
from bessemer.store import evaluations, job_rows, keys


def champion(services: FlywheelServices, model: str) -> str | None:
    """Return the version that is the model's champion now."""
    return next((alias.version for alias in services.catalog.aliases(model) if alias.name == CHAMPION), None)


def standing_gate(services: FlywheelServices, version: ModelVersion, evaluation_id: str | None = None) -> Evaluation:
    """Return the evaluation that lets a version serve: the named one, else the newest whose gate stands for it.

    Raises Conflict that says what is missing, NotFound for an unknown evaluation.
    """
    if evaluation_id is not None:
        found = [evaluations.get(services.database, evaluation_id)]
    else:
        found = evaluations.gated(services.database, version.id)
    refusals: list[str] = []
    for evaluation in found:
        refusal = _refusal(services, version, evaluation)
        if refusal is None and evaluation_id is None:
            refusal = _own_grader(services, evaluation)
        if refusal is not None:
            refusals.append(f"{evaluation.id}: {refusal}")
            continue
        assert evaluation.gate is not None
        if evaluation.gate.passed:
            return evaluation
        raise Conflict(
            f"Version {version.id!r} did not pass the gate of {evaluation.id!r}: {evaluation.gate.rule}",
            code="gate_failed",
        )
    against = champion(services, version.model) or "the incumbent"
    told = f" Not counted: {'; '.join(refusals[:3])}." if refusals else ""
    raise Conflict(
        f"Version {version.id!r} has no evaluation with a gate that counts: run one on the hold-out split that names "
        f"it as the candidate and {against} as the reference.{told}",
        code="gate_missing",
    )


def _refusal(services: FlywheelServices, version: ModelVersion, evaluation: Evaluation) -> str | None:
    """Say why an evaluation's gate does not count for a version; None: it does, passed or not."""
    gate, policy = evaluation.gate, services.catalog.gate_policy
    if gate is None or gate.candidate != version.id:
        return f"its gate is not about {version.id}"
    if evaluation.split is not Split.HOLDOUT:
        return f"it asked the split {evaluation.split.value!r}, not the hold-out"
    if gate.look is None or gate.n is None:
        return "it was decided by an earlier rule; evaluate again"
    if gate.margin > policy.max_margin:
        return f"its margin {gate.margin:g} is above {policy.max_margin:g}"
    if gate.n < policy.min_items:
        return f"its {gate.n} items are fewer than {policy.min_items}"
    return (
        dataset_refusal(services, version, evaluation.dataset)
        or unapproved(services, version, evaluation.dataset)
        or reference_refusal(services, version, gate.reference or "")
    )


def _own_grader(services: FlywheelServices, evaluation: Evaluation) -> str | None:
    try:
        row = job_rows.get(services.database, evaluation.id)
    except NotFound:
        return None
    return own_grader(services, evaluation.metric, row.key_id)


def own_grader(services: FlywheelServices, metric: str, key_id: str | None) -> str | None:
    """Say why an evaluation that a key asked for counts only for who names it: a grader scores, and is the choice of
    a key without a say in what serves. None: it counts by itself.
    """
    if metric != "reward" or all(_stand_for(services, key_id, Action.GRADER_APPROVE)):
        return None
    return "its grader was named by a key that may neither operate nor approve: read it, then name the evaluation"


def _stand_for(services: FlywheelServices, key_id: str | None, action: Action) -> list[bool]:
    """Return whether a key, revoked or not, may stand for what it chose; nothing for one that is not known."""
    asked = [principal_of(key) for key in keys.find(services.database) if key.id == key_id]
    return [services.policy.decide(asker, action, project(asker.project_id)).allowed for asker in asked]


def dataset_refusal(services: FlywheelServices, version: ModelVersion, dataset: str) -> str | None:
    """Say why a dataset does not gate a version; None: it may."""
    pinned = {pin.dataset for pin in _pins(services, version) if pin.dataset is not None}
    return f"the operator's dataset is {' or '.join(sorted(pinned))}" if pinned and dataset not in pinned else None


def unapproved(services: FlywheelServices, version: ModelVersion, dataset: str) -> str | None:
    """Say what a dataset lacks for a gate of a version to count; None: nothing.

    What decides is not chosen by the one who asks alone: the operator has pinned it, or somebody with a say in what
    serves built or approved it.
    """
    pinned = {pin.dataset for pin in _pins(services, version)}
    if dataset in pinned:
        return None
    try:
        row = dataset_rows.get(services.database, dataset)
    except NotFound:
        return f"the dataset {dataset} was deleted: evaluate on one that can be read"
    built_by = row.provenance.get("built_by")
    if row.approved or (row.approved is None and any(_stand_for(services, built_by, Action.DATASET_APPROVE))):
        return None
    builder = "a key that may neither operate nor approve"
    if row.approved is None:
        builder = "an earlier release, and nothing says that the key which built it may operate or approve"
    return (
        f"the dataset {dataset} was built by {builder}: a key that may approves it "
        f"(POST /v1/datasets/{dataset}/approve, bessemer dataset approve), or an owner builds one"
    )


def reference_refusal(services: FlywheelServices, version: ModelVersion, reference: str) -> str | None:
    """Say why `reference` (a name or version id) is not what a version must be compared with; None: it is."""
    present, meant = champion(services, version.model), means(services, reference)
    if present is not None and present != version.id:
        return None if meant == present else f"the reference must be the present champion, {present}"
    incumbents = {pin.incumbent for pin in _pins(services, version) if pin.incumbent is not None}
    if incumbents:
        allowed = {means(services, name) for name in incumbents} | incumbents
        return None if {meant, reference} & allowed else f"the reference must be {' or '.join(sorted(incumbents))}"
    if services.catalog.has_route(reference) or meant in _in_force(services):
        return None
    try:
        itself = not tuned(services.catalog.resolve(reference).version)
    except BessemerError:
        itself = False
    return None if itself else "the reference must be a route, a configured model or a version that serves"


def means(services: FlywheelServices, name: str) -> str:
    """Return the version that a name stands for, the name itself when it is a route of several."""
    try:
        route = services.catalog.route_or_target(name)
        targets = [target for step in route.steps for target in step.targets]
        return services.catalog.resolve(targets[0].model).version.id if len(targets) == 1 else name
    except BessemerError:
        return name


def versions(services: FlywheelServices, name: str) -> set[str]:
    """Return the versions that a name's steps ask. Raises NotFound for an unknown one."""
    route = services.catalog.route_or_target(name)
    return {services.catalog.resolve(target.model).version.id for step in route.steps for target in step.targets}


def tuned(version: ModelVersion) -> bool:
    """Return whether a version was made by a tuning job, and so has something to show."""
    return version.lineage is not None and version.lineage.method is not None


def ungated(services: FlywheelServices, route: Route) -> list[str]:
    """Return the route's targets that may not serve: tuned versions without a gate that stands.

    What the route that is in force under this name asks already stays.
    """
    catalog = services.catalog
    before = catalog.route(route.name).targets if catalog.has_route(route.name) else []
    known = {(target.model, target.prompt) for target in before}
    return [
        target.model
        for target in route.targets
        if (target.model, target.prompt) not in known and not _may_serve(services, target)
    ]


def _may_serve(services: FlywheelServices, target: Target) -> bool:
    version = services.catalog.resolve(target.model).version
    if not tuned(version):
        return True
    if target.prompt not in (None, version.prompt):
        return False  # the gate was about this version with its own prompt
    present = champion(services, version.model)
    if target.model == f"{version.model}:{CHAMPION}" or present == version.id:
        return True
    if target.model == version.model:
        return False  # without a champion this name moves to every new version
    try:
        standing_gate(services, version)
    except Conflict:
        return False
    return True


def serves(services: FlywheelServices, model: str, alias: str) -> bool:
    """Return whether a route asks for `model:alias`, so that moving the alias changes what clients get."""
    names = {f"{model}:{alias}"} | ({model} if alias == CHAMPION and not _configured(services, model) else set())
    return any(target.model in names for route in services.catalog.routes() for target in route.targets)


def _configured(services: FlywheelServices, model: str) -> bool:
    """Whether a model's bare name is its base version, and not its champion."""
    return model in {one.name for one in services.catalog.models()}


def _pins(services: FlywheelServices, version: ModelVersion) -> list[GatePin]:
    """The operator's pins for a version's model, and for each route that asks that model."""
    pins = services.catalog.gate_policy.pins
    names = {version.model} | {
        route.name
        for route in services.catalog.routes()
        if any(_model_of(target.model) == version.model for target in route.targets)
    }
    return [pins[name] for name in sorted(names) if name in pins]


def _model_of(target: str) -> str:
    return target.split("@", 1)[0].split(":", 1)[0]


def _in_force(services: FlywheelServices) -> set[str]:
    champions = {alias.version for alias in services.catalog.aliases() if alias.name == CHAMPION}
    routed = {means(services, target.model) for route in services.catalog.routes() for target in route.targets}
    return champions | routed
