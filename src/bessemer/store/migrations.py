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

_OWNED = (
    "inferences",
    "model_calls",
    "feedback",
    "audit_events",
    "api_keys",
    "model_versions",
    "files",
    "datasets",
    "evaluations",
    "jobs",
)
_LISTED = ("inferences", "feedback", "audit_events", "files", "datasets", "evaluations", "jobs")
_PROJECTS = Migration(
    4,
    "whose it is: a project on every row, aliases and routes by project; what a key is limited to",
    (
        *(f"ALTER TABLE {table} ADD COLUMN project_id TEXT NOT NULL DEFAULT 'proj_default'" for table in _OWNED),
        *(
            statement
            for table in _LISTED
            for statement in (
                f"DROP INDEX {table}_created_at",
                f"CREATE INDEX {table}_created_at ON {table} (project_id, created_at, id)",
            )
        ),
        "DROP INDEX inferences_route",
        "CREATE INDEX inferences_route ON inferences (project_id, route, created_at, id)",
        "DROP INDEX model_calls_created_at",
        "CREATE INDEX model_calls_created_at ON model_calls (project_id, created_at)",
        "ALTER TABLE alias_moves RENAME TO alias_moves_before",
        """CREATE TABLE alias_moves (
            project_id TEXT NOT NULL, model TEXT NOT NULL, alias TEXT NOT NULL, seq BIGINT NOT NULL,
            version TEXT REFERENCES model_versions (id), previous_seq BIGINT NOT NULL,
            moved_at DOUBLE PRECISION NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (project_id, model, alias, seq))""",
        """INSERT INTO alias_moves (project_id, model, alias, seq, version, previous_seq, moved_at, reason)
            SELECT 'proj_default', model, alias, seq, version, previous_seq, moved_at, reason
            FROM alias_moves_before""",
        "DROP TABLE alias_moves_before",
        "ALTER TABLE route_changes RENAME TO route_changes_before",
        """CREATE TABLE route_changes (
            project_id TEXT NOT NULL, name TEXT NOT NULL, seq BIGINT NOT NULL, body TEXT,
            previous_seq BIGINT NOT NULL, changed_at DOUBLE PRECISION NOT NULL, reason TEXT NOT NULL,
            PRIMARY KEY (project_id, name, seq))""",
        """INSERT INTO route_changes (project_id, name, seq, body, previous_seq, changed_at, reason)
            SELECT 'proj_default', name, seq, body, previous_seq, changed_at, reason FROM route_changes_before""",
        "DROP TABLE route_changes_before",
        "ALTER TABLE api_keys ADD COLUMN expires_at DOUBLE PRECISION",
        "ALTER TABLE api_keys ADD COLUMN last_used_at DOUBLE PRECISION",
        "ALTER TABLE api_keys ADD COLUMN trust DOUBLE PRECISION NOT NULL DEFAULT 1",
        "ALTER TABLE api_keys ADD COLUMN models TEXT",
        "UPDATE api_keys SET role = 'owner' WHERE role = 'admin'",
        "UPDATE api_keys SET role = 'app' WHERE role = 'inference'",
    ),
)

_INSTALLATION = Migration(
    5,
    "the identity of the database; plans, which were files",
    (
        "CREATE TABLE installation (id TEXT NOT NULL PRIMARY KEY)",
        """CREATE TABLE plans (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, body TEXT NOT NULL,
            project_id TEXT NOT NULL DEFAULT 'proj_default')""",
        "CREATE INDEX plans_created_at ON plans (project_id, created_at, id)",
    ),
)

_LOOKS = Migration(
    6,
    "looks at the same items; the evaluation that an alias stands on",
    (
        """CREATE TABLE looks (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL, number BIGINT NOT NULL,
            body TEXT NOT NULL, project_id TEXT NOT NULL DEFAULT 'proj_default')""",
        """CREATE TABLE look_items (
            item TEXT NOT NULL, look TEXT NOT NULL REFERENCES looks (id), PRIMARY KEY (item, look))""",
        "ALTER TABLE alias_moves ADD COLUMN evaluation TEXT",
    ),
)

_PARTS = Migration(
    7,
    "a project on parts of rows and on what was erased; more indexes begin with it",
    (
        *(
            f"ALTER TABLE {table} ADD COLUMN project_id TEXT NOT NULL DEFAULT 'proj_default'"
            for table in ("job_events", "job_checkpoints", "look_items", "erased_records")
        ),
        "UPDATE job_events SET project_id = (SELECT project_id FROM jobs WHERE jobs.id = job_events.job_id)",
        "UPDATE job_checkpoints SET project_id = (SELECT project_id FROM jobs WHERE jobs.id = job_checkpoints.job_id)",
        "UPDATE look_items SET project_id = (SELECT project_id FROM looks WHERE looks.id = look_items.look)",
        "DROP INDEX inferences_episode",
        "CREATE INDEX inferences_episode ON inferences (project_id, episode_id)",
        "DROP INDEX feedback_inference",
        "CREATE INDEX feedback_inference ON feedback (project_id, inference_id)",
        "DROP INDEX feedback_episode",
        "CREATE INDEX feedback_episode ON feedback (project_id, episode_id)",
        "DROP INDEX model_versions_model",
        "CREATE INDEX model_versions_created_at ON model_versions (project_id, created_at, id)",
        "CREATE INDEX api_keys_created_at ON api_keys (project_id, created_at, id)",
    ),
)

_USAGE = Migration(
    8,
    "what was used, added up; requests from before, which `usage_backlog` counts",
    (
        """CREATE TABLE usage_totals (
            id TEXT NOT NULL PRIMARY KEY, span_s BIGINT NOT NULL, start BIGINT NOT NULL, tag TEXT NOT NULL,
            tag_value TEXT NOT NULL, route TEXT NOT NULL, version TEXT NOT NULL, model TEXT NOT NULL,
            provider TEXT NOT NULL, key_id TEXT NOT NULL, project_id TEXT NOT NULL DEFAULT 'proj_default',
            requests BIGINT NOT NULL, calls BIGINT NOT NULL, unpriced_calls BIGINT NOT NULL,
            input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL,
            cost_usd DOUBLE PRECISION NOT NULL, saved_usd DOUBLE PRECISION NOT NULL,
            seconds DOUBLE PRECISION NOT NULL)""",
        "CREATE INDEX usage_totals_start ON usage_totals (project_id, tag, span_s, start)",
        "CREATE TABLE usage_uncounted (id TEXT NOT NULL PRIMARY KEY)",
        "INSERT INTO usage_uncounted (id) SELECT id FROM inferences",
    ),
)

_LIMITS = Migration(
    9,
    "what was taken of limits",
    (
        """CREATE TABLE limit_counts (
            id TEXT NOT NULL PRIMARY KEY, ends_at DOUBLE PRECISION NOT NULL, used DOUBLE PRECISION NOT NULL)""",
    ),
)

_TOTALS = (
    "id, start, tag, tag_value, route, version, model, provider, key_id, project_id, requests, calls, unpriced_calls, "
    "input_tokens, output_tokens, cached_tokens, cost_usd, saved_usd, seconds"
)
_USAGE_BY_SPAN = Migration(
    10,
    "a table of totals for each span",
    (
        *(
            statement
            for name, span_s in (("usage_minutes", 60), ("usage_hours", 3600), ("usage_days", 86400))
            for statement in (
                f"""CREATE TABLE {name} (
                    id TEXT NOT NULL PRIMARY KEY, start BIGINT NOT NULL, tag TEXT NOT NULL, tag_value TEXT NOT NULL,
                    route TEXT NOT NULL, version TEXT NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL,
                    key_id TEXT NOT NULL, project_id TEXT NOT NULL DEFAULT 'proj_default', requests BIGINT NOT NULL,
                    calls BIGINT NOT NULL, unpriced_calls BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
                    output_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL, cost_usd DOUBLE PRECISION NOT NULL,
                    saved_usd DOUBLE PRECISION NOT NULL, seconds DOUBLE PRECISION NOT NULL)""",
                f"CREATE INDEX {name}_start ON {name} (project_id, tag, start)",
                f"INSERT INTO {name} ({_TOTALS}) SELECT {_TOTALS} FROM usage_totals WHERE span_s = {span_s}",  # noqa: S608 - constants
            )
        ),
        "DROP TABLE usage_totals",
    ),
)

_EXPIRING_FILES = Migration(
    11, "files that go by themselves", ("ALTER TABLE files ADD COLUMN expires_at DOUBLE PRECISION",)
)

MIGRATIONS: tuple[Migration, ...] = (
    _RECORDS,
    _FLYWHEEL,
    _ERASED,
    _PROJECTS,
    _INSTALLATION,
    _LOOKS,
    _PARTS,
    _USAGE,
    _LIMITS,
    _USAGE_BY_SPAN,
    _EXPIRING_FILES,
)


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
