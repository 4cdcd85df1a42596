"""No version is judged on what it was trained on or chosen by: examples whose input it has seen are left out, counted.

An input is known by its canonical hash, in whatever spelling or dataset it comes. What a version was trained on is read
from the training files that its lineage names, what it was chosen by from the validation files of their jobs, those of
the versions that it started from included; a file that was erased says nothing any more.
"""

import io
from collections.abc import Sequence

from bessemer.core.content import input_hash
from bessemer.core.datasets import Example, Split
from bessemer.core.errors import InvalidRequest, NotFound, StoreError
from bessemer.core.models import ModelVersion
from bessemer.feedback.rows import TrainingRow, read_rows
from bessemer.flywheel.services import FlywheelServices
from bessemer.store import files, job_rows


def unseen(
    services: FlywheelServices, targets: Sequence[str], examples: Sequence[Example], split: Split
) -> tuple[Example, ...]:
    """Return the examples of a split on which no target was trained. Raises InvalidRequest when none is left.

    On the splits that decide, none whose validation loss or reward chose a target's checkpoint either: the selection
    split is there for that.
    """
    decides = split in (Split.CALIBRATION, Split.HOLDOUT)
    seen = frozenset[str]().union(*(_seen(services, target, validation=decides) for target in targets))
    left = tuple(one for one in examples if input_hash(one.input, one.messages) not in seen)
    if examples and not left:
        raise InvalidRequest(
            f"All {len(examples)} examples are inputs that {' or '.join(map(repr, targets))} was trained on or chosen "
            "by: take a split or a dataset that was held out.",
            param="dataset",
        )
    return left


def _seen(services: FlywheelServices, target: str, *, validation: bool) -> frozenset[str]:
    """Return the hashes of the inputs that any version behind a target was trained on, or chosen by as well."""
    contents: set[str] = set()
    route = services.catalog.route_or_target(target)
    waiting = [one.model for step in route.steps for one in step.targets]
    known: set[str] = set()
    while waiting:
        name = waiting.pop()
        version = _version(services, name)
        if version is None or version.id in known or version.lineage is None:
            continue
        known.add(version.id)
        if version.lineage.dataset_sha256 is not None:
            contents.add(version.lineage.dataset_sha256)
            waiting.append(version.lineage.base)
        if validation and version.lineage.job_id is not None:
            contents.update(_validation(services, version.lineage.job_id))
    return frozenset(digest for sha256 in contents for digest in _inputs(services, sha256))


def _validation(services: FlywheelServices, job_id: str) -> set[str]:
    """Return the content of the validation file that a job named, empty where there is none (any more)."""
    try:
        named = job_rows.get(services.database, job_id).request.get("validation_file")
        return {files.get(services.database, named).sha256} if isinstance(named, str) else set()
    except NotFound:
        return set()


def _version(services: FlywheelServices, name: str) -> ModelVersion | None:
    try:
        return services.catalog.resolve(name).version
    except NotFound:
        return None


def _inputs(services: FlywheelServices, sha256: str) -> frozenset[str]:
    try:
        content = services.blobs.read(sha256)
        return frozenset(digest for row in read_rows(io.BytesIO(content), "dataset") for digest in _hashes(row))
    except (NotFound, StoreError, InvalidRequest):  # erased, or of an older release that took other rows
        return frozenset()


def _hashes(row: TrainingRow) -> list[str]:
    """Return the hashes of what a row asks before each of its demonstrations, and of its structured input."""
    structured = row.item.get("input")
    own = [input_hash(structured, ())] if isinstance(structured, dict) else []
    return [*own, input_hash(None, row.messages), *(input_hash(None, row.messages[:place]) for place in row.taught)]
