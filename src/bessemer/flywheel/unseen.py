"""No version is judged on what it was trained on: examples whose input it has seen are left out, and counted.

An input is known by its canonical hash, in whatever spelling or dataset it comes. What a version was trained on is read
from the training files that its lineage names, those of the versions that it started from included; a file that was
erased says nothing any more.
"""

import io
from collections.abc import Sequence

from bessemer.core.content import input_hash
from bessemer.core.errors import InvalidRequest, NotFound, StoreError
from bessemer.core.types import Example, ModelVersion
from bessemer.feedback.rows import Row, read_rows
from bessemer.flywheel.services import Services


def unseen(services: Services, targets: Sequence[str], examples: Sequence[Example]) -> tuple[Example, ...]:
    """Return the examples on which no target was trained. Raises InvalidRequest when none is left."""
    seen = frozenset[str]().union(*(_trained(services, target) for target in targets))
    left = tuple(one for one in examples if input_hash(one.input, one.messages) not in seen)
    if examples and not left:
        raise InvalidRequest(
            f"All {len(examples)} examples are inputs that {' or '.join(map(repr, targets))} was trained on: take a "
            "split or a dataset that was held out.",
            param="dataset",
        )
    return left


def _trained(services: Services, target: str) -> frozenset[str]:
    """Return the hashes of the inputs that any version behind a target was trained on."""
    files: set[str] = set()
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
            files.add(version.lineage.dataset_sha256)
            waiting.append(version.lineage.base)
    return frozenset(digest for sha256 in files for digest in _inputs(services, sha256))


def _version(services: Services, name: str) -> ModelVersion | None:
    try:
        return services.catalog.resolve(name).version
    except NotFound:
        return None


def _inputs(services: Services, sha256: str) -> frozenset[str]:
    try:
        content = services.blobs.read(sha256)
        return frozenset(digest for row in read_rows(io.BytesIO(content), "dataset") for digest in _hashes(row))
    except (NotFound, StoreError, InvalidRequest):  # erased, or of an older release that took other rows
        return frozenset()


def _hashes(row: Row) -> list[str]:
    """Return the hashes of what a row asks before each of its demonstrations, and of its structured input."""
    structured = row.item.get("input")
    own = [input_hash(structured, ())] if isinstance(structured, dict) else []
    return [*own, input_hash(None, row.messages), *(input_hash(None, row.messages[:place]) for place in row.taught)]
