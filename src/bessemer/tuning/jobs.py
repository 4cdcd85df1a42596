"""Fine-tuning as a kind of job: OpenAI's object in front, prepare, train in chunks, register behind.

A step is some seconds of optimizer steps and then a saved state. A killed process continues from the last state; steps
repeated after a kill give the same events under the same ids, so nothing is told twice.
"""

from typing import Any, Final, Protocol

import msgspec

from bessemer.core.access import Action, Resource, ResourceKind
from bessemer.core.errors import NotFound
from bessemer.core.openai import FineTuningEvent, FineTuningJob, FineTuningJobRequest, JobExtension
from bessemer.core.settings import Settings
from bessemer.core.types import JSON
from bessemer.core.wire import JobEvent
from bessemer.evals.grader import LARGEST_BODY, GraderServices
from bessemer.gateway.pipeline import on_behalf_of
from bessemer.identity.policy import Policy
from bessemer.jobs.kinds import Accepted, Finished, Job, JobKind, JobRun, Lane, Shown, Told
from bessemer.registry.catalog import Catalog
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.tuning.checks import check_request
from bessemer.tuning.methods import read_method
from bessemer.tuning.results import FineTuningProgress, FineTuningResult


class Installation(Protocol):
    """What fine-tuning needs of an installation."""

    @property
    def settings(self) -> Settings:
        """Its settings."""
        ...

    @property
    def database(self) -> Database:
        """Its database."""
        ...

    @property
    def blobs(self) -> BlobStore:
        """Where adapters and files lie."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Models and prompts."""
        ...

    @property
    def graders(self) -> GraderServices:
        """What graders work with."""
        ...

    @property
    def policy(self) -> Policy:
        """Who may do what."""
        ...

    @property
    def code_commit(self) -> str | None:
        """The commit that runs, where it is known."""
        ...


class _TuningJob(JobRun[FineTuningResult]):
    """A run of the tuner in the worker."""

    def __init__(self, here: Installation, job: Job[FineTuningJobRequest]) -> None:
        from bessemer.tuning.run import TuningRun, TuningServices  # brings torch, which the API does without

        self._job = job
        services = TuningServices(
            database=here.database,
            blobs=here.blobs,
            catalog=here.catalog,
            graders=here.graders,
            jobs_dir=job.folder.parent,
            threads=here.settings.torch_threads,
            organization=here.settings.organization,
            code_commit=here.code_commit,
        )
        self._run = TuningRun.open(services, job.id)

    def prepare(self) -> None:
        self._run.announce()

    def step(self) -> bool:
        return self._run.train_chunk()

    def finish(self) -> Finished[FineTuningResult]:
        result = self._run.register()
        message = f"New fine-tuned model created: {result.fine_tuned_model}"
        return Finished(result=result, keep=lambda: self._job.tell("created-model", message))

    def close(self) -> None:
        self._run.close()


def _accept(here: Installation, job: Job[FineTuningJobRequest]) -> Accepted[FineTuningJobRequest]:
    row, request = job.row, job.request
    principal = on_behalf_of(row.key_id, row.project_id, row.models)
    model = Resource(kind=ResourceKind.MODEL, id=request.model, project_id=row.project_id)
    if not here.policy.decide(principal, Action.ROUTE_INVOKE, model).allowed:
        raise NotFound(f"There is no model {request.model!r} that this key may tune.", param="model")
    catalog = here.catalog.seen_by(principal)
    graders = here.graders.asked_by(principal)
    method, warnings = check_request(request, catalog, job.database, here.blobs, graders)
    request = msgspec.structs.replace(request, method=method.stored(), seed=request.seed or 0, hyperparameters=None)
    return Accepted(
        request=request,
        metadata=request.metadata or {},
        warnings=warnings,
        events=(
            Told("created", f"Created fine-tuning job: {row.id}"),
            *(Told(f"warning-{number}", warning, "warn") for number, warning in enumerate(warnings)),
        ),
    )


def _grader(request: FineTuningJobRequest) -> JSON | None:
    return read_method(request.method, request.hyperparameters).grader


def _render(here: Installation, shown: Shown) -> FineTuningJob:
    """Return the job as OpenAI's object; in a row of an earlier release, `result` holds its progress, too."""
    row, request = shown.row, shown.row.request
    said = (row.result or {}) | (row.progress or {})
    method = request["method"]
    return FineTuningJob(
        id=row.id,
        created_at=int(row.created_at),
        model=request["model"],
        status=row.status.value,
        training_file=request["training_file"],
        validation_file=request.get("validation_file"),
        organization_id=here.settings.organization,
        seed=request["seed"],
        method=method,
        hyperparameters=method.get(method["type"], {}).get("hyperparameters", {}),
        fine_tuned_model=said.get("fine_tuned_model"),
        finished_at=None if row.finished_at is None else int(row.finished_at),
        error=row.error,
        result_files=said.get("result_files", []),
        trained_tokens=said.get("trained_tokens", row.trained_tokens),
        estimated_finish=said.get("estimated_finish"),
        integrations=request.get("integrations"),
        metadata=dict(row.metadata) or None,
        bessemer=_extension(said | ({"warnings": list(shown.warnings)} if shown.warnings else {})),
    )


def _extension(said: JSON) -> JobExtension | msgspec.UnsetType:
    known: dict[str, Any] = {name: said[name] for name in JobExtension.__struct_fields__ if said.get(name) is not None}
    return msgspec.convert(known, JobExtension) if known else msgspec.UNSET


def _render_event(row: JobEvent) -> FineTuningEvent:
    return FineTuningEvent(
        id=row.id, created_at=int(row.created_at), level=row.level, message=row.message, type=row.type, data=row.data
    )


FINE_TUNING: Final = JobKind(
    name="fine_tuning",
    noun="fine-tuning job",
    path="/v1/fine_tuning/jobs",
    prefix="ftjob",
    event_prefix="ftevent",
    lane=Lane("jobs"),
    request=FineTuningJobRequest,
    largest=LARGEST_BODY,
    progress=FineTuningProgress,
    result=FineTuningResult,
    accept=_accept,
    grader=_grader,
    run=_TuningJob,
    render=_render,
    shown=FineTuningJob,
    render_event=_render_event,
    shown_event=FineTuningEvent,
)
