"""OpenAI's list envelope, and the query parameters of endpoints, for server and client."""

from collections.abc import Sequence
from typing import Generic, Literal, TypeVar

import msgspec

from bessemer.core.bounds import Name, Tags, UnixTime
from bessemer.core.openai import StrictWire, Wire

T = TypeVar("T")


class ListQuery(StrictWire):
    """Query of a list endpoint."""

    limit: int = 20
    """Rows in the answer."""
    after: Name | None = None
    """Id of the last row of the page before."""


class Page(Wire, Generic[T], kw_only=True, omit_defaults=False):
    """OpenAI's list object."""

    object: Literal["list"] = "list"
    data: Sequence[T]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class DatasetsQuery(ListQuery):
    """Query of GET /v1/datasets."""

    name: Name | None = None


class FeedbackQuery(ListQuery):
    """Query of GET /v1/feedback."""

    inference_id: Name | None = None
    metric: Name | None = None
    since: UnixTime | None = None


class FilesQuery(StrictWire):
    """Query of GET /v1/files."""

    limit: int = 10_000
    after: Name | None = None
    purpose: Name | None = None
    order: Literal["asc", "desc"] = "desc"


class InferencesQuery(ListQuery):
    """Query of GET /v1/inferences. Times are Unix seconds."""

    route: Name | None = None
    episode_id: Name | None = None
    since: UnixTime | None = None
    until: UnixTime | None = None


class UsageQuery(StrictWire):
    """Query of GET /v1/usage. Times are Unix seconds; a minute that is begun counts whole."""

    by: Name | None = None
    """Names, with commas between them, of what rows are told apart by: route, version, model, provider, key, project.
    Unset: route, version, provider."""
    route: Name | None = None
    model: Name | None = None
    key: Name | None = None
    """Id of a key."""
    tag: Name | None = None
    """Name of a tag: a row for each of its values."""
    since: UnixTime | None = None
    until: UnixTime | None = None


class ModelQuery(ListQuery):
    """Query of GET /v1/versions and GET /v1/aliases."""

    model: Name | None = None


class AuditQuery(ListQuery):
    """Query of GET /v1/audit. Times are Unix seconds."""

    action: Name | None = None
    actor: Name | None = None
    since: UnixTime | None = None
    until: UnixTime | None = None


class JobsQuery(StrictWire):
    """Query of GET /v1/fine_tuning/jobs."""

    limit: int = 20
    after: Name | None = None
    metadata: Tags = msgspec.field(default_factory=dict)
    """`metadata[k]=v`: every pair must match."""


class CheckpointsQuery(StrictWire):
    """Query of GET /v1/fine_tuning/jobs/{id}/checkpoints."""

    limit: int = 10
    after: Name | None = None
