"""Every row has a project: what belongs to one is neither read, nor changed, nor counted as another.

All tables and all functions that take a database are enumerated; what belongs to the installation is listed here alone,
each with its reason.
"""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import create_engine, text
from tests.store.samples import a_feedback, an_inference, keep
from tests.store.test_repositories import a_job, gated

from bessemer.core.access import Role
from bessemer.core.datasets import Dataset
from bessemer.core.errors import Conflict, InvalidRequest, NotFound
from bessemer.core.feedback import Asked
from bessemer.core.inferences import INTERNAL_KEY
from bessemer.core.models import ModelVersion
from bessemer.core.routes import Route, Step, Target
from bessemer.core.wire import JobEvent
from bessemer.store import (
    audit,
    datasets,
    erasure,
    evaluations,
    feedback,
    files,
    inferences,
    job_rows,
    keys,
    limit_counts,
    looks,
    plans,
    revisions,
    routes,
    usage,
    usage_backlog,
    versions,
)
from bessemer.store.database import Database
from bessemer.store.files import FileRow
from bessemer.store.job_rows import Control, JobCheckpoint
from bessemer.store.keys import KeyRow
from bessemer.store.looks import Look, Purpose
from bessemer.store.migrations import migrate
from bessemer.store.schema import metadata

MODULES = (
    audit, datasets, erasure, evaluations, feedback, files, inferences, job_rows, keys, limit_counts, looks, plans,
    revisions, routes, usage, usage_backlog, versions,
)  # fmt: skip
TABLES_OF_THE_INSTALLATION = {
    "schema_version": "which schema the database has",
    "installation": "which database it is",
    "revisions": "counts that tell processes of a change, not of whose",
    "limit_counts": "of whom they are, the names of rules say",
    "usage_uncounted": "ids alone, of requests from before there were totals; empty as soon as a server has started",
}
FUNCTIONS_OF_THE_INSTALLATION = {
    "audit.insert_rows": "the writer's: it brings rows of all projects, each with its own",
    "feedback.insert_rows": "the writer's",
    "inferences.insert_rows": "the writer's",
    "feedback.newest_id": "sets the clock of ids, which all projects share",
    "files.expired": "the worker removes what has expired in every project",
    "files.remove": "the same",
    "files.named": "content is kept once for all projects: may it be removed?",
    "keys.insert_first": "whether the installation has any key",
    "plans.take_in": "brings the files of an earlier release, each to its own project",
    "revisions.bump": "see the table",
    "revisions.current": "see the table",
    "revisions.counts": "see the table",
    "usage.add": "the writer's",
    "usage.forget_tags": "erasure's, which has found the rows of a project",
    "limit_counts.take": "limits of the file hold for the installation; of whom, their names say",
    "limit_counts.give_back": "the same",
    "usage_backlog.count_backlog": "once for all projects",
}
"""`keys.revoke` also counts the owners of all projects, to keep the last one."""
INDEXES_OF_THE_INSTALLATION = {
    "api_keys_hash": "whose a key is, is what it tells",
    "jobs_status": "the worker's queue is one",
    "job_events_id": "keeps ids apart; a job's events are found by the job",
    "model_calls_inference": "keeps a deleted inference without calls",
}
INFERENCE = msgspec.structs.replace(an_inference("inf-1", episode_id="ep-1"), asked=Asked(stream="audit", chance=0.5))
ROUTE = Route(name="cv", steps=(Step(targets=(Target(model="small"),)),))
VERSION = ModelVersion(id="small@1", model="small", created_at=1.0)


def seed(database: Database) -> None:
    """Give the project `claims` a row in each table."""
    mine = database.within("claims")
    row = msgspec.structs.replace(INFERENCE, project_id="claims")
    asked_again = msgspec.structs.replace(row, id="inf-3", calls=(), episode_id=None, key_id=INTERNAL_KEY)
    keep(mine, row, msgspec.structs.replace(row, id="inf-2", calls=(), episode_id=None), asked_again)
    said = (
        a_feedback("fb-1"),
        a_feedback("fb-2", inference_id=None, episode_id="ep-1"),
        a_feedback("fb-3", inference_id="inf-2"),
    )
    keep(mine, *(own(mine, one) for one in said))
    erasure.erase(mine, [msgspec.structs.replace(row, id="inf-2")])
    audit.append(mine, "key-1", "file.created", "file-1", event_id="audit-1")
    keys.insert(mine, own(mine, a_key("key-1")))
    files.insert(mine, a_file("file-1"))
    datasets.insert(mine, msgspec.structs.replace(a_dataset("ds-1"), files={"train": "file-1"}))
    evaluations.insert(mine, gated("eval-1", "small@1", 1.0))
    job_rows.insert(mine, msgspec.structs.replace(a_job("job-1"), project_id="claims", control=Control.PAUSE))
    job_rows.append_event(mine, "job-1", "said", event_id="event-1")
    job_rows.append_checkpoint(mine, a_checkpoint("ckpt-1", 1))
    plans.insert(mine, "plan-1", json.dumps({"id": "plan-1"}), 1.0)
    routes.put(mine, ROUTE, "why")
    versions.insert(mine, VERSION)
    versions.move_alias(mine, "small", "champion", "small@1", "why")
    looks.number(mine, a_look("look-1"), ["a", "b"])


def a_checkpoint(name: str, step: int) -> JobCheckpoint:
    return JobCheckpoint(id=name, job_id="job-1", created_at=1.0, step=step, version="v", metrics={})


def a_version(name: str) -> ModelVersion:
    return msgspec.structs.replace(VERSION, id=name)


def a_look(name: str) -> Look:
    return Look(id=name, created_at=1.0, purpose=Purpose.GATE, subject="small@1")


class Case(NamedTuple):
    """A call of a function, made as the owner of the rows and as another project."""

    call: Callable[[Database], Any]
    changes: bool = False
    """Whether it changes rows of its owner; otherwise it returns something of them."""
    foreign: Any = None
    """What another project gets, where it is not nothing."""


CASES = {
    "audit.append": Case(
        lambda d: audit.append(d, "key-1", "file.created", "x", event_id=new(d, "audit")), changes=True
    ),
    "audit.find": Case(audit.find),
    "datasets.insert": Case(lambda d: datasets.insert(d, a_dataset(new(d, "ds"))), changes=True),
    "datasets.get": Case(lambda d: datasets.get(d, "ds-1")),
    "datasets.approve": Case(lambda d: datasets.approve(d, "ds-1"), changes=True),
    "datasets.delete": Case(lambda d: datasets.delete(d, "ds-1"), changes=True),
    "datasets.find": Case(datasets.find),
    "datasets.of_file": Case(lambda d: datasets.of_file(d, "file-1")),
    "erasure.matching": Case(lambda d: list(erasure.matching(d))),
    "erasure.erase": Case(lambda d: erasure.erase(d, [INFERENCE], ["fb-2"]), changes=True),
    "erasure.copies": Case(lambda d: erasure.copies(d, [INFERENCE])),
    "erasure.erased": Case(lambda d: erasure.erased(d, ["inf-2"])),
    "erasure.known_feedback": Case(lambda d: erasure.known_feedback(d, ["fb-1"])),
    "erasure.count_feedback": Case(lambda d: erasure.count_feedback(d, ["inf-1"])),
    "evaluations.insert": Case(lambda d: evaluations.insert(d, gated(new(d, "eval"), "small@1", 1.0)), changes=True),
    "evaluations.get": Case(lambda d: evaluations.get(d, "eval-1")),
    "evaluations.results": Case(lambda d: evaluations.results(d, ["eval-1"])),
    "evaluations.find": Case(evaluations.find),
    "evaluations.gated": Case(lambda d: evaluations.gated(d, "small@1")),
    "feedback.get": Case(lambda d: feedback.get(d, "fb-1")),
    "feedback.for_inferences": Case(lambda d: feedback.for_inferences(d, ["inf-1"])),
    "feedback.for_episodes": Case(lambda d: feedback.for_episodes(d, ["ep-1"])),
    "feedback.find": Case(lambda d: feedback.find(d, inference_id="inf-1")),
    "feedback.on_audited": Case(lambda d: feedback.on_audited(d, "matching", 0.0, ["verdict"])),
    "feedback.ids_on_audited": Case(lambda d: feedback.ids_on_audited(d, "matching", 0.0, ["verdict"], until="fb-9")),
    "files.insert": Case(lambda d: files.insert(d, a_file(new(d, "file"))), changes=True),
    "files.get": Case(lambda d: files.get(d, "file-1")),
    "files.find": Case(files.find),
    "files.delete": Case(lambda d: files.delete(d, "file-1"), changes=True),
    "inferences.get": Case(lambda d: inferences.get(d, "inf-1")),
    "inferences.key_of": Case(lambda d: inferences.key_of(d, "inf-1")),
    "inferences.get_many": Case(lambda d: inferences.get_many(d, ["inf-1"])),
    "inferences.find": Case(lambda d: inferences.find(d, episode_id="ep-1")),
    "inferences.first_audited": Case(lambda d: inferences.first_audited(d, "matching", "small@0123456789ab", 0.0)),
    "inferences.fitting": Case(lambda d: inferences.fitting(d, limit=5), foreign=5),
    "usage.find": Case(usage.find),
    "job_rows.insert": Case(lambda d: job_rows.insert(d, own(d, a_job(new(d, "job")))), changes=True, foreign=True),
    "job_rows.get": Case(lambda d: job_rows.get(d, "job-1")),
    "job_rows.find": Case(job_rows.find),
    "job_rows.fitting": Case(lambda d: job_rows.fitting(d, kind="fine_tuning", limit=5), foreign=5),
    "job_rows.statuses": Case(lambda d: job_rows.statuses(d, ["job-1"])),
    "job_rows.change": Case(
        lambda d: job_rows.change(d, "job-1", lambda row: msgspec.structs.replace(row, resumed=7)), changes=True
    ),
    "job_rows.control": Case(lambda d: job_rows.control(d, "job-1")),
    "job_rows.append_event": Case(lambda d: job_rows.append_event(d, "job-1", "more"), changes=True),
    "job_rows.events": Case(lambda d: job_rows.events(d, "job-1")),
    "job_rows.append_checkpoint": Case(lambda d: job_rows.append_checkpoint(d, a_checkpoint("c-2", 2)), changes=True),
    "job_rows.checkpoints": Case(lambda d: job_rows.checkpoints(d, "job-1")),
    "keys.insert": Case(lambda d: keys.insert(d, own(d, a_key(new(d, "key")))), changes=True),
    "keys.find": Case(keys.find),
    "keys.get": Case(lambda d: keys.get(d, "key-1")),
    "keys.revoke": Case(lambda d: keys.revoke(d, "key-1", 9.0), changes=True),
    "keys.touch": Case(lambda d: keys.touch(d, {"key-1": 9.0}), changes=True),
    "looks.number": Case(lambda d: looks.number(d, a_look(new(d, "look")), ["a", "b"]), changes=True, foreign=1),
    "plans.insert": Case(lambda d: plans.insert(d, new(d, "plan"), "{}"), changes=True),
    "plans.get": Case(lambda d: plans.get(d, "plan-1")),
    "plans.find": Case(plans.find),
    "routes.current": Case(routes.current),
    "routes.put": Case(lambda d: routes.put(d, ROUTE, "again"), changes=True),
    "routes.roll_back": Case(lambda d: routes.roll_back(d, "cv", "back"), changes=True),
    "routes.changed_at": Case(routes.changed_at),
    "versions.insert": Case(lambda d: versions.insert(d, a_version(new(d, "small"))), changes=True, foreign=True),
    "versions.get": Case(lambda d: versions.get(d, "small@1")),
    "versions.find": Case(versions.find),
    "versions.aliases": Case(versions.aliases),
    "versions.move_alias": Case(lambda d: versions.move_alias(d, "small", "trial", "small@1", "why"), changes=True),
    "versions.roll_back": Case(lambda d: versions.roll_back(d, "small", "champion", "why"), changes=True),
    "versions.history": Case(lambda d: versions.history(d, "small", "champion")),
}


def new(database: Database, name: str) -> str:
    return f"{name}-{database.owner}"


def own(database: Database, row: Any) -> Any:
    return msgspec.structs.replace(row, project_id=database.owner)


def a_file(name: str) -> FileRow:
    return FileRow(id=name, sha256="f" * 64, bytes=1, created_at=1.0, filename="a", purpose="fine-tune")


def a_key(name: str) -> KeyRow:
    return KeyRow(id=name, key_hash=name, name="a", role=Role.APP, hint="x", created_at=1.0)


def a_dataset(name: str) -> Dataset:
    return Dataset(id=name, name="d", sha256="0" * 64, created_at=1.0, counts={}, provenance={}, approved=False)


def theirs(database: Database) -> dict[str, list[Any]]:
    """Return the rows of `claims`, by table."""
    owned = [table for table in metadata.sorted_tables if table.name not in TABLES_OF_THE_INSTALLATION]
    with database._engine.connect() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(table.select().where(table.c.project_id == "claims"))))
            for table in owned
        }


@pytest.mark.parametrize("name", CASES)
def test_what_is_anothers_is_neither_read_nor_changed_nor_counted(sqlite_database: Database, name: str) -> None:
    case, database = CASES[name], sqlite_database
    seed(database)
    before = theirs(database)
    assert all(before.values()), "every table has a row"
    got = None
    try:
        got = case.call(database.within("hr"))
    except (NotFound, InvalidRequest, Conflict) as error:
        assert "claims" not in error.message
    assert theirs(database) == before
    if case.foreign is not None:
        assert got == case.foreign
    elif not case.changes or name == "erasure.erase":
        assert not got or not any(got), "nothing, or nothing but zeros"
    mine = case.call(database.within("claims"))
    if case.changes:
        assert theirs(database) != before
    else:
        assert mine


@pytest.mark.parametrize(
    "insert",
    [
        lambda d: audit.append(d, "key-9", "file.deleted", "x", event_id="audit-1"),
        lambda d: datasets.insert(d, a_dataset("ds-1")),
        lambda d: evaluations.insert(d, gated("eval-1", "small@9", 9.0)),
        lambda d: keep(d, own(d, a_feedback("fb-1"))),
        lambda d: files.insert(d, a_file("file-1")),
        lambda d: keep(d, own(d, an_inference("inf-1"))),
        lambda d: job_rows.insert(d, own(d, a_job("job-1"))),
        lambda d: plans.insert(d, "plan-1", "{}"),
        lambda d: versions.insert(d, VERSION),
    ],
    ids=["audit", "datasets", "evaluations", "feedback", "files", "inferences", "jobs", "plans", "versions"],
)
def test_an_id_of_anothers_stays_anothers(sqlite_database: Database, insert: Callable[[Database], Any]) -> None:
    seed(sqlite_database)
    before = theirs(sqlite_database)
    insert(sqlite_database.within("hr"))
    assert theirs(sqlite_database) == before


def public(module: ModuleType) -> set[str]:
    """Return the functions of a module that take a database or a connection."""
    own_functions = (f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__)
    return {
        f"{module.__name__.rpartition('.')[2]}.{f.__name__}"
        for f in own_functions
        if not f.__name__.startswith("_") and {"database", "connection"} & set(inspect.signature(f).parameters)
    }


def test_every_function_is_tried_or_said_to_be_of_the_installation() -> None:
    folder = Path(audit.__file__).parent
    with_tables = {path.stem for path in folder.glob("*.py") if "from bessemer.store.schema import" in path.read_text()}
    assert with_tables - {module.__name__.rpartition(".")[2] for module in MODULES} == {"database"}
    everything = set().union(*map(public, MODULES))
    assert set(CASES) | set(FUNCTIONS_OF_THE_INSTALLATION) == everything
    assert not set(CASES) & set(FUNCTIONS_OF_THE_INSTALLATION)


def test_every_table_says_whose_its_rows_are_and_lists_begin_with_it() -> None:
    owned = {name for name, table in metadata.tables.items() if "project_id" in table.columns}
    assert set(metadata.tables) - owned == set(TABLES_OF_THE_INSTALLATION)
    others = {
        str(index.name)
        for table in metadata.tables.values()
        for index in table.indexes
        if index.columns[0].name != "project_id"
    }
    assert others == set(INDEXES_OF_THE_INSTALLATION)


def test_parts_of_rows_get_the_project_of_the_whole_when_they_had_none(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url)
    body = msgspec.json.encode(msgspec.structs.replace(a_job("job-1"), project_id="claims")).decode()
    told = JobEvent(id="event-1", job_id="job-1", seq=1, created_at=1.0, level="info", message="said", type="message")
    with engine.begin() as connection:
        migrate(connection, target=6)
        job = "INSERT INTO jobs (id, created_at, kind, status, body, project_id) VALUES "
        job += "('job-1', 1, 'k', 'queued', :body, 'claims')"
        connection.execute(text(job), {"body": body})
        event = "INSERT INTO job_events (job_id, seq, id, body) VALUES ('job-1', 1, 'event-1', :body)"
        connection.execute(text(event), {"body": msgspec.json.encode(told).decode()})
    engine.dispose()
    opened = Database.open_url(empty_database_url)
    assert [row.message for row in job_rows.events(opened.within("claims"), "job-1")] == ["said"]
    assert job_rows.events(opened.within("proj_default"), "job-1") == []
    opened.close()
