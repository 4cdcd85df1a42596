"""The whole HTTP surface: a line an endpoint, and those of dialects and job kinds. Contract tests read this table."""

from collections.abc import Sequence
from typing import Final

from bessemer.core.lists import (
    AuditQuery,
    CheckpointsQuery,
    DatasetsQuery,
    FeedbackQuery,
    FilesQuery,
    InferencesQuery,
    ListQuery,
    ModelQuery,
    Page,
    UsageQuery,
)
from bessemer.core.openai import (
    FileObject,
    FineTuningCheckpoint,
    ModelObject,
)
from bessemer.core.types import JSON, Action, Alias, Dataset, Feedback, ModelVersion, Route
from bessemer.core.wire import (
    AuditEvent,
    DatasetRequest,
    Erasure,
    ErasureRequest,
    FeedbackRequest,
    FileDeleted,
    GraderBody,
    GraderRunBody,
    KeyBody,
    KeyInfo,
    NewKey,
    PromoteBody,
    ReasonBody,
    RollbackBody,
    RolledBackAlias,
    RolledBackRoute,
    RouteBody,
    ShownFeedback,
    ShownInference,
    UploadForm,
    UsageRow,
)
from bessemer.dialects import DIALECTS
from bessemer.dialects.base import Dialect
from bessemer.evals.grader import LARGEST_BODY
from bessemer.http import openapi
from bessemer.http.api import (
    audit,
    datasets,
    erasures,
    feedback,
    files,
    fine_tuning,
    graders,
    health,
    inferences,
    jobs,
    keys,
    models,
    plans,
    routes,
    versions,
)
from bessemer.http.dialects import answering
from bessemer.http.kinds import KINDS, Kinds
from bessemer.http.routing import Endpoint
from bessemer_planner.workload import Workload

PUBLIC: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no key."""

_NO_KEY: Final = ()
_VIEW: Final = (Action.VIEW,)
_CONTENT: Final = (Action.CONTENT,)
_CONTRIBUTE: Final = (Action.CONTRIBUTE,)
_OPERATE: Final = (Action.OPERATE,)
_OPERATE_OR_APPROVE: Final = (Action.OPERATE, Action.APPROVE)
"""Whose say is needed for what serves: it was not chosen by the one who asks alone."""
_GOVERN: Final = (Action.GOVERN,)
_AUDIT: Final = (Action.AUDIT,)
_INVOKE: Final = (Action.INVOKE,)
_INVOKE_OR_VIEW: Final = (Action.INVOKE, Action.VIEW)
_INVOKE_OR_CONTRIBUTE: Final = (Action.INVOKE, Action.CONTRIBUTE)
"""Feedback: a key that may invoke judges its own inferences, one that may contribute any."""
_CONTRIBUTE_OR_OPERATE: Final = (Action.CONTRIBUTE, Action.OPERATE)
"""A key that may contribute steers and deletes what it made, one that may operate anything."""

_ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", health.live, _NO_KEY, JSON),
    Endpoint("GET", "/readyz", health.ready, _NO_KEY, JSON),
    Endpoint("GET", "/metrics", health.metrics, _VIEW, "text/plain"),
    Endpoint("GET", "/v1/models", models.list_models, _INVOKE_OR_VIEW, Page[ModelObject]),
    Endpoint("GET", "/v1/models/{model}", models.get_model, _INVOKE_OR_VIEW, ModelObject),
    Endpoint("POST", "/v1/models/{model}/rollback", versions.rollback, _OPERATE, RolledBackAlias, body=RollbackBody),
    Endpoint("POST", "/v1/feedback", feedback.create, _INVOKE_OR_CONTRIBUTE, Feedback, body=FeedbackRequest),
    Endpoint("GET", "/v1/feedback", feedback.list_feedback, _VIEW, Page[ShownFeedback], query=FeedbackQuery),
    Endpoint("DELETE", "/v1/feedback/{feedback_id}", erasures.delete_feedback, _GOVERN, Erasure),
    Endpoint("POST", "/v1/files", files.upload, _CONTRIBUTE, FileObject, body=UploadForm, largest=None),
    Endpoint("GET", "/v1/files", files.list_files, _VIEW, Page[FileObject], query=FilesQuery),
    Endpoint("GET", "/v1/files/{file_id}", files.get_file, _VIEW, FileObject),
    Endpoint("GET", "/v1/files/{file_id}/content", files.content, _CONTENT, "application/octet-stream"),
    Endpoint("DELETE", "/v1/files/{file_id}", files.delete, _CONTRIBUTE_OR_OPERATE, FileDeleted),
    Endpoint(
        "GET",
        "/v1/fine_tuning/jobs/{job_id}/checkpoints",
        fine_tuning.checkpoints,
        _VIEW,
        Page[FineTuningCheckpoint],
        query=CheckpointsQuery,
    ),
    Endpoint(
        "POST",
        "/v1/fine_tuning/alpha/graders/validate",
        graders.validate,
        _CONTRIBUTE,
        GraderBody,
        body=GraderBody,
        largest=LARGEST_BODY,
    ),
    Endpoint(
        "POST",
        "/v1/fine_tuning/alpha/graders/run",
        graders.run,
        _CONTRIBUTE,
        JSON,
        body=GraderRunBody,
        largest=LARGEST_BODY,
    ),
    Endpoint("POST", "/v1/datasets", datasets.create, _CONTRIBUTE, Dataset, body=DatasetRequest),
    Endpoint("GET", "/v1/datasets", datasets.list_datasets, _VIEW, Page[Dataset], query=DatasetsQuery),
    Endpoint("GET", "/v1/datasets/{dataset_id}", datasets.get, _VIEW, Dataset),
    Endpoint("POST", "/v1/datasets/{dataset_id}/approve", datasets.approve, _OPERATE_OR_APPROVE, Dataset),
    Endpoint("GET", "/v1/inferences", inferences.list_inferences, _VIEW, Page[ShownInference], query=InferencesQuery),
    Endpoint("GET", "/v1/inferences/{inference_id}", inferences.get, _VIEW, ShownInference),
    Endpoint("DELETE", "/v1/inferences/{inference_id}", erasures.delete_inference, _GOVERN, Erasure),
    Endpoint("POST", "/v1/erasures", erasures.create, _GOVERN, Erasure, body=ErasureRequest),
    Endpoint("GET", "/v1/usage", inferences.usage, _VIEW, Page[UsageRow], query=UsageQuery),
    Endpoint("GET", "/v1/routes", routes.list_routes, _VIEW, Page[Route], query=ListQuery),
    Endpoint("POST", "/v1/routes", routes.create, _OPERATE, Route, body=RouteBody),
    Endpoint("GET", "/v1/routes/{name}", routes.get, _VIEW, Route),
    Endpoint("PUT", "/v1/routes/{name}", routes.put, _OPERATE, Route, body=RouteBody),
    Endpoint("POST", "/v1/routes/{name}/rollback", routes.rollback, _OPERATE, RolledBackRoute, body=ReasonBody),
    Endpoint("GET", "/v1/versions", versions.list_versions, _VIEW, Page[ModelVersion], query=ModelQuery),
    Endpoint("GET", "/v1/versions/{version_id}/adapter", versions.adapter, _CONTENT, "application/x-tar"),
    Endpoint("GET", "/v1/versions/{version_id}", versions.get, _VIEW, ModelVersion),
    Endpoint("POST", "/v1/versions/{version_id}/promote", versions.promote, _OPERATE, Alias, body=PromoteBody),
    Endpoint("GET", "/v1/aliases", versions.list_aliases, _VIEW, Page[Alias], query=ModelQuery),
    Endpoint("POST", "/v1/plans", plans.create, _CONTRIBUTE, JSON, body=Workload),
    Endpoint("GET", "/v1/plans", plans.list_plans, _VIEW, Page[JSON], query=ListQuery),
    Endpoint("GET", "/v1/plans/{plan_id}", plans.get, _VIEW, JSON),
    Endpoint("GET", "/v1/audit", audit.list_events, _AUDIT, Page[AuditEvent], query=AuditQuery),
    Endpoint("GET", "/v1/keys", keys.list_keys, _GOVERN, Page[KeyInfo], query=ListQuery),
    Endpoint("POST", "/v1/keys", keys.create, _GOVERN, NewKey, body=KeyBody),
    Endpoint("DELETE", "/v1/keys/{key_id}", keys.revoke, _GOVERN, KeyInfo),
)


def table(dialects: Sequence[Dialect], kinds: Kinds) -> tuple[Endpoint, ...]:
    """Return every endpoint of an installation that speaks these dialects and runs these kinds of jobs.

    The last one describes the others.
    """
    spoken = (
        Endpoint("POST", one.path, answering(one), _INVOKE, one.gives, body=one.takes, streams=True, largest=None)
        for one in dialects
    )
    described = (*spoken, *_ENDPOINTS, *(line for kind in kinds for line in jobs.endpoints(kind)))
    return (*described, Endpoint("GET", "/openapi.json", openapi.handler(described), _INVOKE_OR_VIEW, JSON))


TABLE: Final = table(DIALECTS, KINDS)
