"""The whole HTTP surface, one line an endpoint. Contract tests read this table."""

from typing import Final

from bessemer.core.types import Role
from bessemer.server.api import (
    audit,
    chat,
    datasets,
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
from bessemer.server.routing import Endpoint
from bessemer.store.job_rows import JobKind

PUBLIC: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no key."""
LOCAL: Final = frozenset({"/metrics"})
"""Paths that need no key from this machine itself, and any valid key from elsewhere."""

_ALL, _MEMBER, _ADMIN = Role.INFERENCE, Role.MEMBER, Role.ADMIN
_JOBS = "/v1/fine_tuning/jobs"

TABLE: Final = (
    Endpoint("GET", "/healthz", health.live, None),
    Endpoint("GET", "/readyz", health.ready, None),
    Endpoint("GET", "/metrics", health.metrics, None),
    Endpoint("POST", "/v1/chat/completions", chat.completions, _ALL),
    Endpoint("GET", "/v1/models", models.list_models, _ALL),
    Endpoint("GET", "/v1/models/{model}", models.get_model, _ALL),
    Endpoint("POST", "/v1/models/{model}/rollback", versions.rollback, _ADMIN),
    Endpoint("POST", "/v1/feedback", feedback.create, _ALL),
    Endpoint("GET", "/v1/feedback", feedback.list_feedback, _MEMBER),
    Endpoint("POST", "/v1/files", files.upload, _MEMBER),
    Endpoint("GET", "/v1/files", files.list_files, _MEMBER),
    Endpoint("GET", "/v1/files/{file_id}", files.get_file, _MEMBER),
    Endpoint("GET", "/v1/files/{file_id}/content", files.content, _MEMBER),
    Endpoint("DELETE", "/v1/files/{file_id}", files.delete, _MEMBER),
    Endpoint("POST", _JOBS, fine_tuning.create, _MEMBER),
    Endpoint("GET", _JOBS, fine_tuning.list_jobs, _MEMBER),
    Endpoint("GET", _JOBS + "/{job_id}", fine_tuning.get, _MEMBER),
    Endpoint("POST", _JOBS + "/{job_id}/cancel", fine_tuning.cancel, _MEMBER),
    Endpoint("POST", _JOBS + "/{job_id}/pause", fine_tuning.pause, _MEMBER),
    Endpoint("POST", _JOBS + "/{job_id}/resume", fine_tuning.resume, _MEMBER),
    Endpoint("GET", _JOBS + "/{job_id}/events", fine_tuning.events, _MEMBER),
    Endpoint("GET", _JOBS + "/{job_id}/checkpoints", fine_tuning.checkpoints, _MEMBER),
    Endpoint("POST", "/v1/fine_tuning/alpha/graders/validate", graders.validate, _MEMBER),
    Endpoint("POST", "/v1/fine_tuning/alpha/graders/run", graders.run, _MEMBER),
    Endpoint("POST", "/v1/datasets", datasets.create, _MEMBER),
    Endpoint("GET", "/v1/datasets", datasets.list_datasets, _MEMBER),
    Endpoint("GET", "/v1/datasets/{dataset_id}", datasets.get, _MEMBER),
    Endpoint("GET", "/v1/inferences", inferences.list_inferences, _MEMBER),
    Endpoint("GET", "/v1/inferences/{inference_id}", inferences.get, _MEMBER),
    Endpoint("GET", "/v1/usage", inferences.usage, _MEMBER),
    Endpoint("GET", "/v1/routes", routes.list_routes, _MEMBER),
    Endpoint("POST", "/v1/routes", routes.create, _ADMIN),
    Endpoint("GET", "/v1/routes/{name}", routes.get, _MEMBER),
    Endpoint("PUT", "/v1/routes/{name}", routes.put, _ADMIN),
    Endpoint("POST", "/v1/routes/{name}/rollback", routes.rollback, _ADMIN),
    Endpoint("GET", "/v1/versions", versions.list_versions, _MEMBER),
    Endpoint("GET", "/v1/versions/{version_id}", versions.get, _MEMBER),
    Endpoint("POST", "/v1/versions/{version_id}/promote", versions.promote, _ADMIN),
    Endpoint("GET", "/v1/aliases", versions.list_aliases, _MEMBER),
    Endpoint("POST", "/v1/evaluations", jobs.create_evaluation, _MEMBER),
    Endpoint("GET", "/v1/evaluations", jobs.lister(JobKind.EVALUATION), _MEMBER),
    Endpoint("GET", "/v1/evaluations/{job_id}", jobs.getter(JobKind.EVALUATION), _MEMBER),
    Endpoint("GET", "/v1/evaluations/{job_id}/events", jobs.eventer(JobKind.EVALUATION), _MEMBER),
    Endpoint("POST", "/v1/evaluations/{job_id}/cancel", jobs.canceller(JobKind.EVALUATION), _MEMBER),
    Endpoint("POST", "/v1/cascades", jobs.create_cascade, _ADMIN),
    Endpoint("GET", "/v1/cascades", jobs.lister(JobKind.CASCADE), _MEMBER),
    Endpoint("GET", "/v1/cascades/{job_id}", jobs.getter(JobKind.CASCADE), _MEMBER),
    Endpoint("GET", "/v1/cascades/{job_id}/events", jobs.eventer(JobKind.CASCADE), _MEMBER),
    Endpoint("POST", "/v1/cascades/{job_id}/cancel", jobs.canceller(JobKind.CASCADE), _ADMIN),
    Endpoint("POST", "/v1/plans", plans.create, _MEMBER),
    Endpoint("GET", "/v1/plans", plans.list_plans, _MEMBER),
    Endpoint("GET", "/v1/plans/{plan_id}", plans.get, _MEMBER),
    Endpoint("GET", "/v1/audit", audit.list_events, _ADMIN),
    Endpoint("GET", "/v1/keys", keys.list_keys, _ADMIN),
    Endpoint("POST", "/v1/keys", keys.create, _ADMIN),
    Endpoint("DELETE", "/v1/keys/{key_id}", keys.revoke, _ADMIN),
)
