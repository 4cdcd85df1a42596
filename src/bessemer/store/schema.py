"""Tables of the one schema, for SQLite and PostgreSQL.

A noun is kept whole as JSON in `body`; the other columns exist to find it. `migrations.py` creates these tables; a test
holds both equal. Times are Unix seconds. `project_id` says whose a row is.
"""

from sqlalchemy import DOUBLE_PRECISION, BigInteger, Column, ForeignKey, Index, MetaData, Table, Text

from bessemer.core.types import DEFAULT_PROJECT

metadata = MetaData()


def _project() -> Column[str]:
    return Column("project_id", Text, nullable=False, server_default=DEFAULT_PROJECT)


schema_version = Table("schema_version", metadata, Column("version", BigInteger, primary_key=True, autoincrement=False))

inferences = Table(
    "inferences",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("route", Text, nullable=False),
    Column("version", Text),
    Column("key_id", Text, nullable=False),
    Column("episode_id", Text),
    Column("input_sha256", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("inferences_created_at", "project_id", "created_at", "id"),
    Index("inferences_route", "project_id", "route", "created_at", "id"),
    Index("inferences_episode", "project_id", "episode_id"),
)

model_calls = Table(
    "model_calls",
    metadata,
    Column("id", Text, primary_key=True),
    Column("inference_id", Text, ForeignKey("inferences.id"), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("route", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("cost_usd", DOUBLE_PRECISION),
    Column("latency_s", DOUBLE_PRECISION, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("model_calls_inference", "inference_id"),
    Index("model_calls_created_at", "project_id", "created_at"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("inference_id", Text),
    Column("episode_id", Text),
    Column("metric", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("feedback_inference", "project_id", "inference_id"),
    Index("feedback_episode", "project_id", "episode_id"),
    Index("feedback_created_at", "project_id", "created_at", "id"),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("action", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("audit_events_created_at", "project_id", "created_at", "id"),
)

erased_records = Table(
    "erased_records",
    metadata,
    Column("id", Text, primary_key=True),
    Column("erased_at", DOUBLE_PRECISION, nullable=False),
    _project(),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key_hash", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("revoked_at", DOUBLE_PRECISION),
    _project(),
    Column("expires_at", DOUBLE_PRECISION),
    Column("last_used_at", DOUBLE_PRECISION),
    Column("trust", DOUBLE_PRECISION, nullable=False, server_default="1"),
    Column("models", Text),
    Index("api_keys_hash", "key_hash", unique=True),
    Index("api_keys_created_at", "project_id", "created_at", "id"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("model_versions_created_at", "project_id", "created_at", "id"),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Text, ForeignKey("model_versions.id")),
    Column("previous_seq", BigInteger, nullable=False),
    Column("moved_at", DOUBLE_PRECISION, nullable=False),
    Column("reason", Text, nullable=False),
    Column("evaluation", Text),
)

route_changes = Table(
    "route_changes",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text),
    Column("previous_seq", BigInteger, nullable=False),
    Column("changed_at", DOUBLE_PRECISION, nullable=False),
    Column("reason", Text, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Column("expires_at", DOUBLE_PRECISION),
    Index("files_created_at", "project_id", "created_at", "id"),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("datasets_created_at", "project_id", "created_at", "id"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("evaluations_created_at", "project_id", "created_at", "id"),
)

looks = Table(
    "looks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
)

look_items = Table(
    "look_items",
    metadata,
    Column("item", Text, primary_key=True),
    Column("look", Text, ForeignKey("looks.id"), primary_key=True),
    _project(),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("control", Text),
    Column("body", Text, nullable=False),
    _project(),
    Index("jobs_status", "status", "created_at"),
    Index("jobs_created_at", "project_id", "created_at", "id"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("job_events_id", "id", unique=True),
)

job_checkpoints = Table(
    "job_checkpoints",
    metadata,
    Column("job_id", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
)

installation = Table("installation", metadata, Column("id", Text, primary_key=True))

plans = Table(
    "plans",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at", DOUBLE_PRECISION, nullable=False),
    Column("body", Text, nullable=False),
    _project(),
    Index("plans_created_at", "project_id", "created_at", "id"),
)


def _totals(name: str) -> Table:
    """Make a table of totals, one for each span: the rows of long spans, which most is read from, lie together."""
    return Table(
        name,
        metadata,
        Column("id", Text, primary_key=True),
        Column("start", BigInteger, nullable=False),
        Column("tag", Text, nullable=False),
        Column("tag_value", Text, nullable=False),
        Column("route", Text, nullable=False),
        Column("version", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("provider", Text, nullable=False),
        Column("key_id", Text, nullable=False),
        _project(),
        *(
            Column(figure, BigInteger, nullable=False)
            for figure in ("requests", "calls", "unpriced_calls", "input_tokens", "output_tokens", "cached_tokens")
        ),
        *(Column(figure, DOUBLE_PRECISION, nullable=False) for figure in ("cost_usd", "saved_usd", "seconds")),
        Index(f"{name}_start", "project_id", "tag", "start"),
    )


usage_minutes, usage_hours, usage_days = map(_totals, ("usage_minutes", "usage_hours", "usage_days"))

limit_counts = Table(
    "limit_counts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("ends_at", DOUBLE_PRECISION, nullable=False),
    Column("used", DOUBLE_PRECISION, nullable=False),
)

usage_uncounted = Table("usage_uncounted", metadata, Column("id", Text, primary_key=True))
