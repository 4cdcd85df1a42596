"""Every call of the API, a function each; jobs of one kind share a form (`FINE_TUNING`, `EVALUATIONS`, `CASCADES`,
`LADDERS`, `PLANS`, `BATCHES`).

A body or query is the API's own type, or JSON of that form. A contract test holds this list and the table of endpoints
equal.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from bessemer.client.operation import Operation, Streamed, Upload, segment
from bessemer.core.anthropic_messages import MessageObject, MessageRequest
from bessemer.core.datasets import Dataset
from bessemer.core.errors import InvalidRequest
from bessemer.core.feedback import Feedback
from bessemer.core.models import Alias, ModelVersion
from bessemer.core.openai import (
    FileObject,
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningJobRequest,
    ModelObject,
)
from bessemer.core.openai_batches import BatchObject, BatchRequest
from bessemer.core.openai_chat import ChatCompletion, ChatCompletionChunk, ChatRequest
from bessemer.core.openai_embeddings import EmbeddingList, EmbeddingRequest
from bessemer.core.openai_responses import ResponseObject, ResponseRequest
from bessemer.core.paging import (
    AuditQuery,
    CheckpointsQuery,
    DatasetsQuery,
    FeedbackQuery,
    FilesQuery,
    InferencesQuery,
    JobsQuery,
    ListQuery,
    ModelQuery,
    Page,
    UsageQuery,
)
from bessemer.core.routes import MonitorReport, Route
from bessemer.core.types import JSON
from bessemer.core.wire import (
    AuditEvent,
    CascadeRequest,
    DatasetDeleted,
    DatasetRequest,
    Erasure,
    ErasureRequest,
    EvaluationRequest,
    FeedbackRequest,
    FileDeleted,
    GraderBody,
    GraderRunBody,
    JobEvent,
    JobObject,
    KeyBody,
    KeyInfo,
    LadderRequest,
    NewKey,
    PromoteBody,
    ReasonBody,
    RollbackBody,
    RolledBackAlias,
    RolledBackRoute,
    RouteBody,
    ShownFeedback,
    ShownInference,
    UsageRow,
    WantedBody,
    WantedFeedback,
)

_CHAT: Final = "/v1/chat/completions"
_RESPONSES: Final = "/v1/responses"
_MESSAGES: Final = "/v1/messages"


class AnyJob(Protocol):
    """What all jobs tell of themselves."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def status(self) -> str:
        """How far it is."""
        ...

    @property
    def error(self) -> JSON | None:
        """Why it failed."""
        ...


class AnyEvent(Protocol):
    """What all events of jobs tell."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def created_at(self) -> float:
        """Unix seconds."""

    @property
    def message(self) -> str:
        """One sentence."""


T = TypeVar("T")
B = TypeVar("B", bound=msgspec.Struct)
J = TypeVar("J", bound=AnyJob)
E = TypeVar("E", bound=AnyEvent)


@dataclass(frozen=True, slots=True)
class Jobs(Generic[B, J, E]):
    """The calls of one kind of job."""

    path: str
    request: type[B]
    job: type[J]
    page: type[Page[J]]
    events_page: type[Page[E]]

    def create(self, body: B | JSON, key: str | None = None) -> Operation[J]:
        """Make a job. The same `key` gives the same job again; None: a fresh key, for this call and its retries."""
        return Operation("POST", self.path, self.job, body).with_key(key)

    def list(self, query: JobsQuery | JSON | None = None) -> Operation[Page[J]]:
        """List jobs, newest first."""
        return Operation("GET", self.path, self.page, query=query)

    def get(self, job_id: str) -> Operation[J]:
        """Show a job."""
        return Operation("GET", self._of(job_id), self.job)

    def events(self, job_id: str, query: ListQuery | JSON | None = None) -> Operation[Page[E]]:
        """List a job's events, newest first."""
        return Operation("GET", self._of(job_id, "/events"), self.events_page, query=query)

    def cancel(self, job_id: str) -> Operation[J]:
        """End a job without a result."""
        return Operation("POST", self._of(job_id, "/cancel"), self.job)

    def pause(self, job_id: str) -> Operation[J]:
        """Let a job rest until it is resumed."""
        return Operation("POST", self._of(job_id, "/pause"), self.job)

    def resume(self, job_id: str) -> Operation[J]:
        """Let a paused job go on."""
        return Operation("POST", self._of(job_id, "/resume"), self.job)

    def _of(self, job_id: str, what: str = "") -> str:
        return f"{self.path}/{segment(job_id)}{what}"


FINE_TUNING = Jobs(
    "/v1/fine_tuning/jobs",
    FineTuningJobRequest,
    FineTuningJob,
    Page[FineTuningJob],
    Page[FineTuningEvent],
)
EVALUATIONS = Jobs("/v1/evaluations", EvaluationRequest, JobObject, Page[JobObject], Page[JobEvent])
CASCADES = Jobs("/v1/cascades", CascadeRequest, JobObject, Page[JobObject], Page[JobEvent])
BATCHES = Jobs("/v1/batches", BatchRequest, BatchObject, Page[BatchObject], Page[JobEvent])
LADDERS = Jobs("/v1/ladders", LadderRequest, JobObject, Page[JobObject], Page[JobEvent])
PLANS = Jobs("/v1/plans/jobs", msgspec.Struct, JobObject, Page[JobObject], Page[JobEvent])
"""Their requests are workloads: `bessemer_planner.workload.Workload`, or JSON."""
KINDS: tuple[Jobs[Any, Any, Any], ...] = (FINE_TUNING, EVALUATIONS, CASCADES, LADDERS, PLANS, BATCHES)


# -- asking, and what is said of answers ------------------------------------------------------------------------------


def _check_whole(body: ChatRequest | ResponseRequest | MessageRequest | JSON, streamed: str) -> None:
    if (body.get("stream") if isinstance(body, dict) else body.stream) is True:
        raise InvalidRequest(
            f"Answers come whole here: leave 'stream' out, or make the call with {streamed!r}.", param="stream"
        )


def _streamed(path: str, event: type[T], body: msgspec.Struct | JSON) -> Streamed[T]:
    fields: JSON = dict(body) if isinstance(body, dict) else msgspec.to_builtins(body)
    return Streamed(Operation("POST", path, event, fields | {"stream": True}))


def chat(body: ChatRequest | JSON) -> Operation[ChatCompletion]:
    """Ask a route, model, alias or version, and get the answer whole; `stream_chat` gives it as it comes."""
    _check_whole(body, "stream_chat")
    return Operation("POST", _CHAT, ChatCompletion, body)


def stream_chat(body: ChatRequest | JSON) -> Streamed[ChatCompletionChunk]:
    """Ask as `chat` does, and get the answer as it comes, in events."""
    return _streamed(_CHAT, ChatCompletionChunk, body)


def respond(body: ResponseRequest | JSON) -> Operation[ResponseObject]:
    """Ask as OpenAI's Responses do, and get the response whole; `stream_response` gives its events."""
    _check_whole(body, "stream_response")
    return Operation("POST", _RESPONSES, ResponseObject, body)


def stream_response(body: ResponseRequest | JSON) -> Streamed[JSON]:
    """Ask as `respond` does, and get the events of the response; the last one holds all of it."""
    return _streamed(_RESPONSES, JSON, body)


def message(body: MessageRequest | JSON) -> Operation[MessageObject]:
    """Ask as Anthropic's Messages do, and get the message whole; `stream_message` gives its events."""
    _check_whole(body, "stream_message")
    return Operation("POST", _MESSAGES, MessageObject, body)


def stream_message(body: MessageRequest | JSON) -> Streamed[JSON]:
    """Ask as `message` does, and get the events of the message."""
    return _streamed(_MESSAGES, JSON, body)


def embed(body: EmbeddingRequest | JSON) -> Operation[EmbeddingList]:
    """Ask a route, model or alias for the vectors of texts."""
    return Operation("POST", "/v1/embeddings", EmbeddingList, body)


def list_models() -> Operation[Page[ModelObject]]:
    """List everything that a client may write in `model`."""
    return Operation("GET", "/v1/models", Page[ModelObject])


def get_model(model: str) -> Operation[ModelObject]:
    """Show one of them."""
    return Operation("GET", f"/v1/models/{segment(model)}", ModelObject)


def give_feedback(body: FeedbackRequest | JSON) -> Operation[Feedback]:
    """Record what was learned about an inference or an episode."""
    return Operation("POST", "/v1/feedback", Feedback, body)


def wanted_feedback(body: WantedBody | JSON) -> Operation[Page[WantedFeedback]]:
    """Ask which requests of a route to judge next, and note that they were asked about."""
    return Operation("POST", "/v1/feedback/wanted", Page[WantedFeedback], body)


def list_feedback(query: FeedbackQuery | JSON | None = None) -> Operation[Page[ShownFeedback]]:
    """List feedback, newest first."""
    return Operation("GET", "/v1/feedback", Page[ShownFeedback], query=query)


def delete_feedback(feedback_id: str) -> Operation[Erasure]:
    """Erase one piece of feedback."""
    return Operation("DELETE", f"/v1/feedback/{segment(feedback_id)}", Erasure)


def list_inferences(query: InferencesQuery | JSON | None = None) -> Operation[Page[ShownInference]]:
    """List what was asked and answered, newest first."""
    return Operation("GET", "/v1/inferences", Page[ShownInference], query=query)


def get_inference(inference_id: str) -> Operation[ShownInference]:
    """Show one inference with its calls."""
    return Operation("GET", f"/v1/inferences/{segment(inference_id)}", ShownInference)


def delete_inference(inference_id: str) -> Operation[Erasure]:
    """Erase one inference with its calls and the feedback on it."""
    return Operation("DELETE", f"/v1/inferences/{segment(inference_id)}", Erasure)


def erase(body: ErasureRequest | JSON) -> Operation[Erasure]:
    """Erase inferences and feedback by condition."""
    return Operation("POST", "/v1/erasures", Erasure, body)


def usage(query: UsageQuery | JSON | None = None) -> Operation[Page[UsageRow]]:
    """Show requests, calls, tokens, cost and seconds by route, model, key or tag."""
    return Operation("GET", "/v1/usage", Page[UsageRow], query=query)


# -- files, datasets, graders -----------------------------------------------------------------------------------------


def upload_file(file: Path, purpose: str = "fine-tune") -> Operation[FileObject]:
    """Send a file of training rows (JSON Lines)."""
    return Operation("POST", "/v1/files", FileObject, Upload(file, purpose))


def list_files(query: FilesQuery | JSON | None = None) -> Operation[Page[FileObject]]:
    """List files, newest first."""
    return Operation("GET", "/v1/files", Page[FileObject], query=query)


def get_file(file_id: str) -> Operation[FileObject]:
    """Show one file."""
    return Operation("GET", f"/v1/files/{segment(file_id)}", FileObject)


def file_content(file_id: str) -> Operation[bytes]:
    """Fetch what a file holds; `Client.save` writes it to disk as it comes."""
    return Operation("GET", f"/v1/files/{segment(file_id)}/content", bytes)


def delete_file(file_id: str) -> Operation[FileDeleted]:
    """Delete a file."""
    return Operation("DELETE", f"/v1/files/{segment(file_id)}", FileDeleted)


def create_dataset(body: DatasetRequest | JSON) -> Operation[Dataset]:
    """Freeze inferences and their feedback, or the rows of a file."""
    return Operation("POST", "/v1/datasets", Dataset, body)


def list_datasets(query: DatasetsQuery | JSON | None = None) -> Operation[Page[Dataset]]:
    """List datasets, newest first."""
    return Operation("GET", "/v1/datasets", Page[Dataset], query=query)


def get_dataset(dataset_id: str) -> Operation[Dataset]:
    """Show one dataset."""
    return Operation("GET", f"/v1/datasets/{segment(dataset_id)}", Dataset)


def approve_dataset(dataset_id: str) -> Operation[Dataset]:
    """Let gates stand on a dataset."""
    return Operation("POST", f"/v1/datasets/{segment(dataset_id)}/approve", Dataset)


def delete_dataset(dataset_id: str) -> Operation[DatasetDeleted]:
    """Delete a dataset with its rows and its files."""
    return Operation("DELETE", f"/v1/datasets/{segment(dataset_id)}", DatasetDeleted)


def validate_grader(body: GraderBody | JSON) -> Operation[GraderBody]:
    """Check a grader's form and its templates."""
    return Operation("POST", "/v1/fine_tuning/alpha/graders/validate", GraderBody, body)


def run_grader(body: GraderRunBody | JSON) -> Operation[JSON]:
    """Grade one answer: OpenAI's object, with `reward` and `metadata.errors`."""
    return Operation("POST", "/v1/fine_tuning/alpha/graders/run", JSON, body)


def list_checkpoints(
    job_id: str, query: CheckpointsQuery | JSON | None = None
) -> Operation[Page[FineTuningCheckpoint]]:
    """List a fine-tuning job's checkpoints, newest first."""
    return Operation(
        "GET", f"/v1/fine_tuning/jobs/{segment(job_id)}/checkpoints", Page[FineTuningCheckpoint], query=query
    )


# -- routes and versions ----------------------------------------------------------------------------------------------


def list_routes(query: ListQuery | JSON | None = None) -> Operation[Page[Route]]:
    """List routes by name."""
    return Operation("GET", "/v1/routes", Page[Route], query=query)


def create_route(body: RouteBody | JSON) -> Operation[Route]:
    """Write the route that the body names."""
    return Operation("POST", "/v1/routes", Route, body)


def get_route(name: str) -> Operation[Route]:
    """Show one route."""
    return Operation("GET", f"/v1/routes/{segment(name)}", Route)


def put_route(name: str, body: RouteBody | JSON) -> Operation[Route]:
    """Write a route; it wins over the configuration file's until it is rolled back."""
    return Operation("PUT", f"/v1/routes/{segment(name)}", Route, body)


def route_monitor(name: str) -> Operation[MonitorReport]:
    """Return what is known of a route's rungs by audited requests."""
    return Operation("GET", f"/v1/routes/{segment(name)}/monitor", MonitorReport)


def rollback_route(name: str, body: ReasonBody | JSON | None = None) -> Operation[RolledBackRoute]:
    """Put back what a route was before its last change."""
    return Operation("POST", f"/v1/routes/{segment(name)}/rollback", RolledBackRoute, body)


def list_versions(query: ModelQuery | JSON | None = None) -> Operation[Page[ModelVersion]]:
    """List versions, newest first."""
    return Operation("GET", "/v1/versions", Page[ModelVersion], query=query)


def get_version(version_id: str) -> Operation[ModelVersion]:
    """Show one version with its lineage."""
    return Operation("GET", f"/v1/versions/{segment(version_id)}", ModelVersion)


def version_adapter(version_id: str) -> Operation[bytes]:
    """Fetch a version's adapter, a tar of its peft folder; `Client.save` writes it to disk as it comes."""
    return Operation("GET", f"/v1/versions/{segment(version_id)}/adapter", bytes)


def promote(version_id: str, body: PromoteBody | JSON | None = None) -> Operation[Alias]:
    """Move an alias to a version; `champion` needs a passed gate."""
    return Operation("POST", f"/v1/versions/{segment(version_id)}/promote", Alias, body)


def rollback_alias(model: str, body: RollbackBody | JSON | None = None) -> Operation[RolledBackAlias]:
    """Move a model's alias back to what it named before."""
    return Operation("POST", f"/v1/models/{segment(model)}/rollback", RolledBackAlias, body)


def list_aliases(query: ModelQuery | JSON | None = None) -> Operation[Page[Alias]]:
    """List aliases and the versions they name."""
    return Operation("GET", "/v1/aliases", Page[Alias], query=query)


# -- plans, keys, the installation ------------------------------------------------------------------------------------


def create_plan(body: msgspec.Struct | JSON) -> Operation[JSON]:
    """Plan hardware for a workload (as `PLANS` does); answers when the plan is made, many seconds."""
    return Operation("POST", "/v1/plans", JSON, body)


def list_plans(query: ListQuery | JSON | None = None) -> Operation[Page[JSON]]:
    """List plans, newest first, without their tables."""
    return Operation("GET", "/v1/plans", Page[JSON], query=query)


def get_plan(plan_id: str) -> Operation[JSON]:
    """Show one plan."""
    return Operation("GET", f"/v1/plans/{segment(plan_id)}", JSON)


def plan_report(plan_id: str) -> Operation[bytes]:
    """Fetch a plan as a page for people; `Client.save` writes it to disk as it comes."""
    return Operation("GET", f"/v1/plans/{segment(plan_id)}/report", bytes)


def list_audit_events(query: AuditQuery | JSON | None = None) -> Operation[Page[AuditEvent]]:
    """List audit events, newest first."""
    return Operation("GET", "/v1/audit", Page[AuditEvent], query=query)


def list_keys(query: ListQuery | JSON | None = None) -> Operation[Page[KeyInfo]]:
    """List keys without their secrets, newest first."""
    return Operation("GET", "/v1/keys", Page[KeyInfo], query=query)


def create_key(body: KeyBody | JSON) -> Operation[NewKey]:
    """Make a key; the answer alone holds it."""
    return Operation("POST", "/v1/keys", NewKey, body)


def revoke_key(key_id: str) -> Operation[KeyInfo]:
    """Revoke a key at once."""
    return Operation("DELETE", f"/v1/keys/{segment(key_id)}", KeyInfo)


def liveness() -> Operation[JSON]:
    """Ask whether the process answers."""
    return Operation("GET", "/healthz", JSON)


def readiness() -> Operation[JSON]:
    """Ask whether it can serve. Raises Overloaded while it cannot."""
    return Operation("GET", "/readyz", JSON)


def metrics() -> Operation[bytes]:
    """Fetch the metrics in Prometheus' text format."""
    return Operation("GET", "/metrics", bytes)


def describe() -> Operation[JSON]:
    """Fetch the OpenAPI document."""
    return Operation("GET", "/openapi.json", JSON)
