"""Watches transactions: what is changed without an audit event in the same transaction is written down.

As `sitecustomize.py` on the path of a server it watches the server and its worker, and writes to the file that the
environment variable `UNTOLD` names.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOLD = frozenset(
    {
        "alias_moves",
        "api_keys",
        "datasets",
        "erased_records",
        "evaluations",
        "files",
        "jobs",
        "model_versions",
        "plans",
        "route_changes",
    }
)
"""Tables whose changes are audited."""
UNTOLD = {
    "inferences": "a fact that is its own record; its erasure writes erased_records",
    "model_calls": "a part of an inference",
    "feedback": "a fact that is its own record",
    "audit_events": "the trail itself",
    "job_events": "what a job tells: its own record",
    "job_checkpoints": "what a job tells: its version has an event",
    "looks": "a ledger of its own, appended once",
    "look_items": "a part of a look",
    "revisions": "says that another table changed",
    "schema_version": "of the installation, written by migrations",
    "usage_minutes": "adds up inferences, which are their own record",
    "usage_hours": "the same",
    "usage_days": "the same",
    "installation": "of the installation, written once",
    "limit_counts": "what was taken of limits: settled by inferences, which are their own record",
    "usage_uncounted": "which inferences of before are still to be added up",
}
"""Tables whose changes are not, and why."""
_CHANGE = re.compile(r"\s*(INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) (\w+)")
_EXCUSES = {"audit_events", "schema_version"}
"""An event, or a migration, which keeps what there is in another form."""
_ENDED = {"succeeded", "failed", "cancelled"}


def watch(engine: Any, tell: Callable[[str], object]) -> None:
    """Call `tell` with the changes of each committed transaction that lacks an event."""
    from sqlalchemy import event

    def executed(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        found = _CHANGE.match(statement)
        if found is None or found[2] not in {*TOLD, *_EXCUSES} or _is_free(statement, parameters):
            return
        connection.info.setdefault("changed", set()).add(f"{found[1]} {found[2]}")

    def committed(connection: Any) -> None:
        changed = connection.info.pop("changed", set())
        if changed and not any(change.split()[-1] in _EXCUSES for change in changed):
            tell(" + ".join(sorted(changed)))

    def undone(connection: Any) -> None:
        connection.info.pop("changed", None)

    event.listen(engine, "after_cursor_execute", executed)
    event.listen(engine, "commit", committed)
    event.listen(engine, "rollback", undone)


def _is_free(statement: str, parameters: Any) -> bool:
    """Whether a change is no decision: when a key was used, how far a job is."""
    if statement.lstrip().startswith("UPDATE jobs"):
        values = parameters.values() if isinstance(parameters, dict) else parameters
        return not _ENDED & {value for value in values if isinstance(value, str)}
    return statement.lstrip().startswith("UPDATE api_keys SET last_used_at")


if "UNTOLD" in os.environ:
    from sqlalchemy import Engine

    def _write(line: str) -> None:
        with Path(os.environ["UNTOLD"]).open("a") as file:
            file.write(line + "\n")

    watch(Engine, _write)
