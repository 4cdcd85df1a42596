"""Forward-only migrations: a list of SQL that SQLite and PostgreSQL both understand, applied in one transaction each.

An entry never changes once released; a change of the schema is a new entry and the same change in `schema.py`.
"""

from typing import NamedTuple

from sqlalchemy import Connection, inspect, text

from bessemer.core.errors import StoreError


class Migration(NamedTuple):
    """One step of the schema."""

    version: int
    name: str
    statements: tuple[str, ...]


_RECORDS = Migration(
    1,
    "what happened: inferences, calls, feedback, audit events; keys",
    (
        """CREATE TABLE inferences (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, route TEXT NOT NULL, version TEXT,
            key_id TEXT NOT NULL, episode_id TEXT, input_sha256 TEXT NOT NULL, body TEXT NOT NULL)""",
        "CREATE INDEX inferences_created_at ON inferences (created_at, id)",
        "CREATE INDEX inferences_route ON inferences (route, created_at, id)",
        "CREATE INDEX inferences_episode ON inferences (episode_id)",
        """CREATE TABLE model_calls (
            id TEXT NOT NULL PRIMARY KEY, inference_id TEXT NOT NULL REFERENCES inferences (id),
            position BIGINT NOT NULL, created_at DOUBLE PRECISION NOT NULL, route TEXT NOT NULL, version TEXT NOT NULL,
            provider TEXT NOT NULL, input_tokens BIGINT, output_tokens BIGINT, cost_usd DOUBLE PRECISION,
            latency_s DOUBLE PRECISION NOT NULL, body TEXT NOT NULL)""",
        "CREATE INDEX model_calls_inference ON model_calls (inference_id)",
        "CREATE INDEX model_calls_created_at ON model_calls (created_at)",
        """CREATE TABLE feedback (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, inference_id TEXT, episode_id TEXT,
            metric TEXT NOT NULL, body TEXT NOT NULL)""",
        "CREATE INDEX feedback_inference ON feedback (inference_id)",
        "CREATE INDEX feedback_episode ON feedback (episode_id)",
        "CREATE INDEX feedback_created_at ON feedback (created_at, id)",
        """CREATE TABLE audit_events (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, action TEXT NOT NULL,
            body TEXT NOT NULL)""",
        "CREATE INDEX audit_events_created_at ON audit_events (created_at, id)",
        """CREATE TABLE api_keys (
            id TEXT NOT NULL PRIMARY KEY, key_hash TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
            hint TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL, revoked_at DOUBLE PRECISION)""",
        "CREATE UNIQUE INDEX api_keys_hash ON api_keys (key_hash)",
        "CREATE TABLE revisions (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL)",
    ),
)

_FLYWHEEL = Migration(
    2,
    "what is made of it: files, datasets, jobs, evaluations, versions, aliases, routes",
    (
        """CREATE TABLE model_versions (
            id TEXT NOT NULL PRIMARY KEY, model TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
            body TEXT NOT NULL)""",
        "CREATE INDEX model_versions_model ON model_versions (model, created_at)",
        """CREATE TABLE alias_moves (
            model TEXT NOT NULL, alias TEXT NOT NULL, seq BIGINT NOT NULL,
            version TEXT REFERENCES model_versions (id), previous_seq BIGINT NOT NULL,
            moved_at DOUBLE PRECISION NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (model, alias, seq))""",
        """CREATE TABLE route_changes (
            name TEXT NOT NULL, seq BIGINT NOT NULL, body TEXT, previous_seq BIGINT NOT NULL,
            changed_at DOUBLE PRECISION NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (name, seq))""",
        """CREATE TABLE files (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, purpose TEXT NOT NULL,
            body TEXT NOT NULL)""",
        "CREATE INDEX files_created_at ON files (created_at, id)",
        """CREATE TABLE datasets (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, name TEXT NOT NULL,
            sha256 TEXT NOT NULL, body TEXT NOT NULL)""",
        "CREATE INDEX datasets_created_at ON datasets (created_at, id)",
        """CREATE TABLE evaluations (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, dataset TEXT NOT NULL,
            body TEXT NOT NULL)""",
        "CREATE INDEX evaluations_created_at ON evaluations (created_at, id)",
        """CREATE TABLE jobs (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL,
            status TEXT NOT NULL, control TEXT, body TEXT NOT NULL)""",
        "CREATE INDEX jobs_status ON jobs (status, created_at)",
        "CREATE INDEX jobs_created_at ON jobs (created_at, id)",
        """CREATE TABLE job_events (
            job_id TEXT NOT NULL REFERENCES jobs (id), seq BIGINT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (job_id, seq))""",
        "CREATE UNIQUE INDEX job_events_id ON job_events (id)",
        """CREATE TABLE job_checkpoints (
            job_id TEXT NOT NULL REFERENCES jobs (id), step BIGINT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL,
            PRIMARY KEY (job_id, step))""",
    ),
)

_ERASED = Migration(
    3,
    "ids of what was erased, so that no journal brings it back",
    ("CREATE TABLE erased_records (id TEXT NOT NULL PRIMARY KEY, erased_at DOUBLE PRECISION NOT NULL)",),
)

_LOOKS = Migration(
    4,
    "looks at the same items; the evaluation that an alias stands on",
    (
        """CREATE TABLE looks (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, number BIGINT NOT NULL,
            body TEXT NOT NULL)""",
        """CREATE TABLE look_items (
            item TEXT NOT NULL, look TEXT NOT NULL REFERENCES looks (id), PRIMARY KEY (item, look))""",
        "ALTER TABLE alias_moves ADD COLUMN evaluation TEXT",
    ),
)

MIGRATIONS: tuple[Migration, ...] = (_RECORDS, _FLYWHEEL, _ERASED, _LOOKS)


def migrate(connection: Connection, *, target: int | None = None) -> int:
    """Bring the schema to `target` (default: the newest) within the caller's transaction; return its version.

    Raises StoreError when the database was made by a newer Bessemer.
    """
    newest = MIGRATIONS[-1].version
    if not inspect(connection).has_table("schema_version"):
        connection.execute(text("CREATE TABLE schema_version (version BIGINT NOT NULL PRIMARY KEY)"))
    current = connection.execute(text("SELECT COALESCE(MAX(version), 0) FROM schema_version")).scalar_one()
    if current > newest:
        raise StoreError(
            f"The database has schema version {current}, this Bessemer knows {newest}: install the newer Bessemer."
        )
    for migration in MIGRATIONS:
        if current < migration.version <= (newest if target is None else target):
            for statement in migration.statements:
                connection.execute(text(statement))
            connection.execute(
                text("INSERT INTO schema_version (version) VALUES (:version)"), {"version": migration.version}
            )
            current = migration.version
    return int(current)
