"""The whole HTTP surface: a line an endpoint, and those of dialects and job kinds. Contract tests read this table."""

from collections.abc import Sequence
from typing import Final

from bessemer.core.access import Action, ResourceKind
from bessemer.core.datasets import Dataset
from bessemer.core.errors import ConfigError
from bessemer.core.feedback import Feedback
from bessemer.core.models import Alias, ModelVersion
from bessemer.core.openai import (
    FileObject,
    FineTuningCheckpoint,
    ModelObject,
)
from bessemer.core.paging import (
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
from bessemer.core.routes import MonitorReport, Route
from bessemer.core.types import JSON
from bessemer.core.wire import (
    AuditEvent,
    DatasetDeleted,
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
    WantedBody,
    WantedFeedback,
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
from bessemer.http.routing import Endpoint, audit_log, named, organization
from bessemer_planner.workload import Workload

PUBLIC: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no key."""

_MODEL: Final = named(ResourceKind.MODEL, "model")
_ROUTE: Final = named(ResourceKind.ROUTE, "name")
_VERSION: Final = named(ResourceKind.VERSION, "version_id")

_ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", health.live, None, JSON),
    Endpoint("GET", "/readyz", health.ready, None, JSON),
    Endpoint("GET", "/metrics", health.metrics, Action.OBJECT_VIEW, "text/plain", organization),
    Endpoint("GET", "/v1/models", models.list_models, Action.MODEL_VIEW, Page[ModelObject]),
    Endpoint("GET", "/v1/models/{model}", models.get_model, Action.MODEL_VIEW, ModelObject, _MODEL),
    Endpoint(
        "POST",
        "/v1/models/{model}/rollback",
        versions.rollback,
        Action.VERSION_ROLLBACK,
        RolledBackAlias,
        _MODEL,
        body=RollbackBody,
        events=("version.rolled_back",),
    ),
    Endpoint("POST", "/v1/feedback", feedback.create, Action.FEEDBACK_WRITE, Feedback, body=FeedbackRequest),
    Endpoint(
        "GET", "/v1/feedback", feedback.list_feedback, Action.OBJECT_VIEW, Page[ShownFeedback], query=FeedbackQuery
    ),
    Endpoint(
        "POST",
        "/v1/feedback/wanted",
        feedback.list_wanted,
        Action.FEEDBACK_REVIEW,
        Page[WantedFeedback],
        body=WantedBody,
        events=("feedback.wanted",),
    ),
    Endpoint(
        "DELETE",
        "/v1/feedback/{feedback_id}",
        erasures.delete_feedback,
        Action.SUBJECT_ERASE,
        Erasure,
        feedback.FEEDBACK,
        events=("subject.erased",),
    ),
    Endpoint(
        "POST",
        "/v1/files",
        files.upload,
        Action.FILE_WRITE,
        FileObject,
        body=UploadForm,
        largest=None,
        events=("file.created",),
    ),
    Endpoint("GET", "/v1/files", files.list_files, Action.OBJECT_VIEW, Page[FileObject], query=FilesQuery),
    Endpoint("GET", "/v1/files/{file_id}", files.get_file, Action.OBJECT_VIEW, FileObject, files.FILE),
    Endpoint(
        "GET", "/v1/files/{file_id}/content", files.content, Action.CONTENT_READ, "application/octet-stream", files.FILE
    ),
    Endpoint(
        "DELETE",
        "/v1/files/{file_id}",
        files.delete,
        Action.FILE_DELETE,
        FileDeleted,
        files.FILE,
        events=("file.deleted",),
    ),
    Endpoint(
        "GET",
        "/v1/fine_tuning/jobs/{job_id}/checkpoints",
        fine_tuning.checkpoints,
        Action.OBJECT_VIEW,
        Page[FineTuningCheckpoint],
        fine_tuning.JOB,
        query=CheckpointsQuery,
    ),
    Endpoint(
        "POST",
        "/v1/fine_tuning/alpha/graders/validate",
        graders.validate,
        Action.GRADER_RUN,
        GraderBody,
        body=GraderBody,
        largest=LARGEST_BODY,
    ),
    Endpoint(
        "POST",
        "/v1/fine_tuning/alpha/graders/run",
        graders.run,
        Action.GRADER_RUN,
        JSON,
        body=GraderRunBody,
        largest=LARGEST_BODY,
    ),
    Endpoint(
        "POST",
        "/v1/datasets",
        datasets.create,
        Action.DATASET_BUILD,
        Dataset,
        body=DatasetRequest,
        events=("dataset.created",),
    ),
    Endpoint("GET", "/v1/datasets", datasets.list_datasets, Action.OBJECT_VIEW, Page[Dataset], query=DatasetsQuery),
    Endpoint("GET", "/v1/datasets/{dataset_id}", datasets.get, Action.OBJECT_VIEW, Dataset, datasets.DATASET),
    Endpoint(
        "POST",
        "/v1/datasets/{dataset_id}/approve",
        datasets.approve,
        Action.DATASET_APPROVE,
        Dataset,
        datasets.DATASET,
        events=("dataset.approved",),
    ),
    Endpoint(
        "DELETE",
        "/v1/datasets/{dataset_id}",
        datasets.delete,
        Action.SUBJECT_ERASE,
        DatasetDeleted,
        datasets.DATASET,
        events=("dataset.deleted",),
    ),
    Endpoint(
        "GET",
        "/v1/inferences",
        inferences.list_inferences,
        Action.OBJECT_VIEW,
        Page[ShownInference],
        query=InferencesQuery,
    ),
    Endpoint(
        "GET", "/v1/inferences/{inference_id}", inferences.get, Action.OBJECT_VIEW, ShownInference, inferences.INFERENCE
    ),
    Endpoint(
        "DELETE",
        "/v1/inferences/{inference_id}",
        erasures.delete_inference,
        Action.SUBJECT_ERASE,
        Erasure,
        inferences.INFERENCE,
        events=("subject.erased",),
    ),
    Endpoint(
        "POST",
        "/v1/erasures",
        erasures.create,
        Action.SUBJECT_ERASE,
        Erasure,
        body=ErasureRequest,
        events=("subject.erased",),
    ),
    Endpoint("GET", "/v1/usage", inferences.usage_totals, Action.OBJECT_VIEW, Page[UsageRow], query=UsageQuery),
    Endpoint("GET", "/v1/routes", routes.list_routes, Action.OBJECT_VIEW, Page[Route], query=ListQuery),
    Endpoint(
        "POST",
        "/v1/routes",
        routes.create,
        Action.ROUTE_WRITE,
        Route,
        body=RouteBody,
        events=(
            "route.created",
            "route.updated",
        ),
    ),
    Endpoint("GET", "/v1/routes/{name}/monitor", routes.monitor, Action.OBJECT_VIEW, MonitorReport, _ROUTE),
    Endpoint("GET", "/v1/routes/{name}", routes.get, Action.OBJECT_VIEW, Route, _ROUTE),
    Endpoint(
        "PUT",
        "/v1/routes/{name}",
        routes.put,
        Action.ROUTE_WRITE,
        Route,
        _ROUTE,
        body=RouteBody,
        events=(
            "route.created",
            "route.updated",
        ),
    ),
    Endpoint(
        "POST",
        "/v1/routes/{name}/rollback",
        routes.rollback,
        Action.ROUTE_WRITE,
        RolledBackRoute,
        _ROUTE,
        body=ReasonBody,
        events=("route.rolled_back",),
    ),
    Endpoint("GET", "/v1/versions", versions.list_versions, Action.OBJECT_VIEW, Page[ModelVersion], query=ModelQuery),
    Endpoint(
        "GET", "/v1/versions/{version_id}/adapter", versions.adapter, Action.CONTENT_READ, "application/x-tar", _VERSION
    ),
    Endpoint("GET", "/v1/versions/{version_id}", versions.get, Action.OBJECT_VIEW, ModelVersion, _VERSION),
    Endpoint(
        "POST",
        "/v1/versions/{version_id}/promote",
        versions.promote,
        Action.VERSION_PROMOTE,
        Alias,
        _VERSION,
        body=PromoteBody,
        events=("version.promoted",),
    ),
    Endpoint("GET", "/v1/aliases", versions.list_aliases, Action.OBJECT_VIEW, Page[Alias], query=ModelQuery),
    Endpoint("POST", "/v1/plans", plans.create, Action.PLAN_CREATE, JSON, body=Workload, events=("plan.created",)),
    Endpoint("GET", "/v1/plans", plans.list_plans, Action.OBJECT_VIEW, Page[JSON], query=ListQuery),
    Endpoint("GET", "/v1/plans/{plan_id}", plans.get, Action.OBJECT_VIEW, JSON, plans.MADE),
    Endpoint("GET", "/v1/plans/{plan_id}/report", plans.report, Action.OBJECT_VIEW, "text/html", plans.MADE),
    Endpoint("GET", "/v1/audit", audit.list_events, Action.AUDIT_READ, Page[AuditEvent], audit_log, query=AuditQuery),
    Endpoint("GET", "/v1/keys", keys.list_keys, Action.KEY_READ, Page[KeyInfo], query=ListQuery),
    Endpoint("POST", "/v1/keys", keys.create, Action.KEY_WRITE, NewKey, body=KeyBody, events=("api_key.created",)),
    Endpoint(
        "DELETE", "/v1/keys/{key_id}", keys.revoke, Action.KEY_WRITE, KeyInfo, keys.KEY, events=("api_key.deleted",)
    ),
)


def table(dialects: Sequence[Dialect], kinds: Kinds, more: Sequence[Endpoint] = ()) -> tuple[Endpoint, ...]:
    """Return every endpoint of an installation that speaks these dialects, runs these kinds of jobs, and has `more`.

    The last one describes the others. Raises ConfigError for two of the same method and path, and for one of `more`
    that names no action: it would answer anybody.
    """
    spoken = (
        Endpoint(
            "POST",
            one.path,
            answering(one),
            Action.ROUTE_INVOKE,
            one.gives,
            body=one.takes,
            streams=one.streams,
            largest=None,
        )
        for one in dialects
    )
    described = (*spoken, *_ENDPOINTS, *(line for kind in kinds for line in jobs.endpoints(kind)), *more)
    description = openapi.handler(described, kinds)
    lines = (*described, Endpoint("GET", "/openapi.json", description, Action.API_VIEW, JSON))
    names = [f"{line.method} {line.path}" for line in lines]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"Two endpoints are {min(twice)}: uninstall one of their packages.")
    for line in more:
        if line.action is None:
            raise ConfigError(f"The endpoint {line.method} {line.path} names no action that a key must be allowed.")
    return lines


TABLE: Final = table(DIALECTS, KINDS)
