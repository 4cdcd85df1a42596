"""The whole HTTP surface, one line an endpoint; a kind of job brings its own. Contract tests read this table."""

from typing import Final

from bessemer.core.types import Action
from bessemer.server.api import (
    audit,
    chat,
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
from bessemer.server.kinds import KINDS, Kinds
from bessemer.server.lists import ListQuery
from bessemer.server.routing import Endpoint

PUBLIC: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no key."""

_NO_KEY: Final = ()
_VIEW: Final = (Action.VIEW,)
_CONTENT: Final = (Action.CONTENT,)
_CONTRIBUTE: Final = (Action.CONTRIBUTE,)
_OPERATE: Final = (Action.OPERATE,)
_GOVERN: Final = (Action.GOVERN,)
_AUDIT: Final = (Action.AUDIT,)
_INVOKE: Final = (Action.INVOKE,)
_INVOKE_OR_VIEW: Final = (Action.INVOKE, Action.VIEW)
_INVOKE_OR_CONTRIBUTE: Final = (Action.INVOKE, Action.CONTRIBUTE)
"""Feedback: a key that may invoke judges its own inferences, one that may contribute any."""
_CONTRIBUTE_OR_OPERATE: Final = (Action.CONTRIBUTE, Action.OPERATE)
"""A key that may contribute steers and deletes what it made, one that may operate anything."""
_CHECKPOINTS: Final = "/v1/fine_tuning/jobs/{job_id}/checkpoints"

_ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", health.live, _NO_KEY),
    Endpoint("GET", "/readyz", health.ready, _NO_KEY),
    Endpoint("GET", "/metrics", health.metrics, _VIEW),
    Endpoint("POST", "/v1/chat/completions", chat.completions, _INVOKE),
    Endpoint("GET", "/v1/models", models.list_models, _INVOKE_OR_VIEW),
    Endpoint("GET", "/v1/models/{model}", models.get_model, _INVOKE_OR_VIEW),
    Endpoint("POST", "/v1/models/{model}/rollback", versions.rollback, _OPERATE),
    Endpoint("POST", "/v1/feedback", feedback.create, _INVOKE_OR_CONTRIBUTE),
    Endpoint("GET", "/v1/feedback", feedback.list_feedback, _VIEW, feedback.FeedbackQuery),
    Endpoint("DELETE", "/v1/feedback/{feedback_id}", erasures.delete_feedback, _GOVERN),
    Endpoint("POST", "/v1/files", files.upload, _CONTRIBUTE),
    Endpoint("GET", "/v1/files", files.list_files, _VIEW, files.FilesQuery),
    Endpoint("GET", "/v1/files/{file_id}", files.get_file, _VIEW),
    Endpoint("GET", "/v1/files/{file_id}/content", files.content, _CONTENT),
    Endpoint("DELETE", "/v1/files/{file_id}", files.delete, _CONTRIBUTE_OR_OPERATE),
    Endpoint("GET", _CHECKPOINTS, fine_tuning.checkpoints, _VIEW, fine_tuning.CheckpointsQuery),
    Endpoint("POST", "/v1/fine_tuning/alpha/graders/validate", graders.validate, _CONTRIBUTE),
    Endpoint("POST", "/v1/fine_tuning/alpha/graders/run", graders.run, _CONTRIBUTE),
    Endpoint("POST", "/v1/datasets", datasets.create, _CONTRIBUTE),
    Endpoint("GET", "/v1/datasets", datasets.list_datasets, _VIEW, datasets.DatasetsQuery),
    Endpoint("GET", "/v1/datasets/{dataset_id}", datasets.get, _VIEW),
    Endpoint("GET", "/v1/inferences", inferences.list_inferences, _VIEW, inferences.InferencesQuery),
    Endpoint("GET", "/v1/inferences/{inference_id}", inferences.get, _VIEW),
    Endpoint("DELETE", "/v1/inferences/{inference_id}", erasures.delete_inference, _GOVERN),
    Endpoint("POST", "/v1/erasures", erasures.create, _GOVERN),
    Endpoint("GET", "/v1/usage", inferences.usage, _VIEW, inferences.UsageQuery),
    Endpoint("GET", "/v1/routes", routes.list_routes, _VIEW, ListQuery),
    Endpoint("POST", "/v1/routes", routes.create, _OPERATE),
    Endpoint("GET", "/v1/routes/{name}", routes.get, _VIEW),
    Endpoint("PUT", "/v1/routes/{name}", routes.put, _OPERATE),
    Endpoint("POST", "/v1/routes/{name}/rollback", routes.rollback, _OPERATE),
    Endpoint("GET", "/v1/versions", versions.list_versions, _VIEW, versions.ModelQuery),
    Endpoint("GET", "/v1/versions/{version_id}/adapter", versions.adapter, _CONTENT),
    Endpoint("GET", "/v1/versions/{version_id}", versions.get, _VIEW),
    Endpoint("POST", "/v1/versions/{version_id}/promote", versions.promote, _OPERATE),
    Endpoint("GET", "/v1/aliases", versions.list_aliases, _VIEW, versions.ModelQuery),
    Endpoint("POST", "/v1/plans", plans.create, _CONTRIBUTE),
    Endpoint("GET", "/v1/plans", plans.list_plans, _VIEW, ListQuery),
    Endpoint("GET", "/v1/plans/{plan_id}", plans.get, _VIEW),
    Endpoint("GET", "/v1/audit", audit.list_events, _AUDIT, audit.AuditQuery),
    Endpoint("GET", "/v1/keys", keys.list_keys, _GOVERN, ListQuery),
    Endpoint("POST", "/v1/keys", keys.create, _GOVERN),
    Endpoint("DELETE", "/v1/keys/{key_id}", keys.revoke, _GOVERN),
)


def table(kinds: Kinds) -> tuple[Endpoint, ...]:
    """Return every endpoint of an installation that runs these kinds of jobs."""
    return (*_ENDPOINTS, *(line for kind in kinds for line in jobs.endpoints(kind)))


TABLE: Final = table(KINDS)
