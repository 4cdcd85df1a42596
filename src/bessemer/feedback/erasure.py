"""Erasure on request: which records go, and what was made of them earlier and stays until somebody decides.

A frozen dataset never changes, and a model cannot unlearn: both are named, down to the versions trained on them, so
that their owner can delete files, build anew, tune again.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from bessemer.core.content import input_hash
from bessemer.core.datasets import Example
from bessemer.core.errors import InvalidRequest, StoreError
from bessemer.core.inferences import Inference
from bessemer.core.wire import Derived, Erasure, ErasureRequest
from bessemer.feedback import datasets as built
from bessemer.store import audit, datasets, erasure, job_rows, revisions, versions
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.writer import Writer

LARGEST = 10_000
"""Inferences erased by one request; `more` says that others match."""


def erase(database: Database, blobs: BlobStore, writer: Writer, request: ErasureRequest, actor: str) -> Erasure:
    """Erase what a request names, with its audit event. Blocking.

    Raises InvalidRequest without any condition, StoreError while rows wait for the database: they would be missed.
    """
    selects = (request.inference_ids, request.tags, request.route, request.since, request.until)
    by_condition = any(value not in ([], {}, None) for value in selects)
    if not by_condition and not request.feedback_ids:
        raise InvalidRequest(
            "Say what to erase: inference_ids, feedback_ids, tags, route, since or until.", param="inference_ids"
        )
    if max(len(request.inference_ids), len(request.feedback_ids)) > LARGEST:
        raise InvalidRequest(f"Send at most {LARGEST} ids at once.", param="inference_ids")
    if not writer.flush():
        raise StoreError("The database is behind: rows already taken are still on their way to it. Try again later.")
    found: list[Inference] = []
    said = erasure.known_feedback(database, request.feedback_ids)
    if by_condition:
        matching = erasure.matching(
            database,
            ids=request.inference_ids,
            tags=request.tags,
            route=request.route,
            since=request.since,
            until=request.until,
        )
        found = list(islice(matching, LARGEST + 1))
    more, found = len(found) > LARGEST, found[:LARGEST]
    found += erasure.copies(database, found)
    derived = derived_from(database, blobs, found)
    if request.dry_run:
        calls, about = erasure.count_feedback(database, [row.id for row in found])
        counts = erasure.Erased(len(found), calls, about + len(said))
    else:
        with database.transaction():
            counts = erasure.erase(database, found, said)
            if any(counts):
                detail = {**counts._asdict(), "derived": msgspec.to_builtins(derived)}
                audit.append(database, actor, "subject.erased", "records", detail)
                database.write(lambda connection: revisions.bump(connection, revisions.ERASED))
        writer.forget([*(row.id for row in found), *said])
        database.forget()
    return Erasure(**counts._asdict(), more=more, derived=derived, dry_run=request.dry_run)


def derived_from(database: Database, blobs: BlobStore, found: Sequence[Inference]) -> Derived:
    """Name the datasets that hold such an inference or its input, and everything made of them."""
    if not found:
        return Derived(datasets=(), files=(), jobs=(), versions=())
    ids = {row.id for row in found}
    inputs = {_asked(row) for row in found}
    holding = [
        dataset
        for dataset in datasets.find(database, limit=None)
        if any(row.id in ids or _asked(row) in inputs for row in built.load(blobs, dataset))
    ]
    names = {dataset.id for dataset in holding}
    files = {file for dataset in holding for file in dataset.files.values()}
    jobs = [
        row.id
        for row in job_rows.find(database, limit=None)
        if row.request.get("dataset") in names
        or {row.request.get("training_file"), row.request.get("validation_file")} & files
    ]
    return Derived(
        datasets=tuple(sorted(names)),
        files=tuple(sorted(files)),
        jobs=tuple(sorted(jobs)),
        versions=_trained(database, jobs),
    )


def _trained(database: Database, jobs: Iterable[str]) -> tuple[str, ...]:
    """Return the versions that the jobs made, and those tuned from these, and so on."""
    made, by = set[str](), set(jobs)
    rows = [row for found in versions.find(database).values() for row in found]
    while True:
        new = {
            row.id for row in rows if row.lineage is not None and (row.lineage.job_id in by or row.lineage.base in made)
        }
        if new <= made:
            return tuple(sorted(made))
        made |= new


def _asked(row: Inference | Example) -> str:
    """Return what was asked, as a hash that is equal for equal inputs, however a client spells them."""
    return input_hash(row.input, row.messages)
