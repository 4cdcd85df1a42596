"""OpenAI's wire objects beside those of its dialects: fine-tuning, files, models (OpenAPI 3.1 description of the API).

Requests refuse unknown fields by name.
"""

from typing import Literal

import msgspec

from bessemer.core.bounds import Name, Tags
from bessemer.core.types import JSON


class Wire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of wire objects: fields that are not set are not sent."""


class StrictWire(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of request bodies: an unknown or unsupported option is refused, never ignored."""


# -- fine-tuning ------------------------------------------------------------------------------------------------------

AutoInt = int | Literal["auto"]
AutoFloat = float | int | Literal["auto"]


class FineTuningJobRequest(StrictWire):
    """Body of POST /v1/fine_tuning/jobs."""

    model: Name
    training_file: Name
    validation_file: Name | None = None
    suffix: Name | None = None
    seed: int | None = None
    method: JSON | None = None
    """`{"type": NAME, NAME: {…}}`: the table of tuning methods says what stands under each name."""
    metadata: Tags | None = None
    integrations: list[JSON] | None = None
    hyperparameters: JSON | None = None
    """Deprecated top-level form; the same as supervised hyperparameters."""


class JobExtension(Wire):
    """Bessemer's own field of a job: what OpenAI's object has no field for."""

    warnings: list[str] = []
    """What is worth a look, first in its files and numbers, in the end in what it made; each is an event, too."""
    version: str | None = None
    share_done: float | None = None
    compute_seconds: float | None = None
    cost_usd: float | None = None
    """Of these seconds at the model's hourly price, judges left out; left out without one."""
    start_score: float | None = None
    """Of the model that the job started from, on the validation rows."""
    best_score: float | None = None
    best_step: int | None = None
    """0: no checkpoint scored above the start."""
    comparison: JSON | None = None
    """The chosen checkpoint against the start, paired by row."""


class FineTuningJob(Wire, omit_defaults=False):
    """`fine_tuning.job`."""

    id: str
    created_at: int
    model: str
    status: str
    training_file: str
    organization_id: str
    seed: int
    method: JSON
    hyperparameters: JSON
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    validation_file: str | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    error: JSON | None = None
    result_files: list[str] = []
    trained_tokens: int | None = None
    estimated_finish: int | None = None
    integrations: list[JSON] | None = None
    metadata: dict[str, str] | None = None
    bessemer: JobExtension | msgspec.UnsetType = msgspec.UNSET


class FineTuningEvent(Wire, omit_defaults=False):
    """`fine_tuning.job.event`."""

    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    data: JSON | None = None
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"


class FineTuningCheckpoint(Wire, omit_defaults=False):
    """`fine_tuning.job.checkpoint`."""

    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: JSON
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"


class FileObject(Wire, omit_defaults=False):
    """`file`."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    object: Literal["file"] = "file"
    status: str = "processed"
    expires_at: int | None = None


class ModelObject(Wire, omit_defaults=False):
    """`model`."""

    id: str
    created: int
    owned_by: str
    object: Literal["model"] = "model"
