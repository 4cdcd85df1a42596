"""OpenAI's wire objects, as far as Bessemer speaks them (OpenAPI 3.1 description of the OpenAI API).

Requests refuse unknown fields by name; the one extension is `bessemer` (structured input, episode, tags) and vLLM's
`structured_outputs`. Responses carry `bessemer` with the inference id beside OpenAI's own fields.
"""

from typing import Literal

import msgspec

from bessemer.core.bounds import Name, Tags, Value
from bessemer.core.types import JSON, Split


class Wire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Base of wire objects: fields that are not set are not sent."""


class StrictWire(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of request bodies: an unknown or unsupported option is refused, never ignored."""


# -- chat completions -------------------------------------------------------------------------------------------------


class RequestExtension(StrictWire):
    """Bessemer's own request field."""

    input: JSON | None = None
    """Structured input; each target renders it through its own prompt."""
    episode_id: Name | None = None
    tags: Tags = {}
    split: Split | None = None
    """The split of data sets that this input belongs to, whatever its hash; for keys that may contribute."""


class StructuredOutputs(StrictWire):
    """vLLM's `structured_outputs`: exactly one of them."""

    choice: list[str] | None = None
    json: JSON | None = None
    regex: str | None = None
    grammar: str | None = None


class StreamOptions(StrictWire):
    """Options of a streamed answer."""

    include_usage: bool = False


class ChatRequest(StrictWire):
    """Body of POST /v1/chat/completions."""

    model: Name
    messages: list[JSON]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_logprobs: int | None = None
    response_format: JSON | None = None
    structured_outputs: StructuredOutputs | None = None
    logit_bias: dict[str, float] | None = None
    user: Value | None = None
    metadata: Tags | None = None
    bessemer: RequestExtension | None = None


class Usage(Wire):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: JSON | None = None


class ChatMessage(Wire, omit_defaults=False):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    """What the model thought before it answered; only where the upstream tells it."""


class Choice(Wire, omit_defaults=False):
    """One answer."""

    index: int
    message: ChatMessage
    finish_reason: str
    logprobs: JSON | None = None


class ResponseExtension(Wire):
    """Bessemer's own response field: what answered and what it cost."""

    inference_id: str
    inference_ids: list[str] | None = None
    """One for each choice, where `n` asked for several."""
    version: str | None = None
    cost_usd: float | None = None
    provider: str | None = None
    """`recorded` when a recorded answer was served."""
    escalated: bool | None = None


class ChatCompletion(Wire, omit_defaults=False):
    """Answer of POST /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    object: Literal["chat.completion"] = "chat.completion"
    system_fingerprint: str | None = None
    bessemer: ResponseExtension | None = None


class ChatCompletionChunk(Wire, omit_defaults=False):
    """One server-sent event of a streamed answer; `choices` hold `{index, delta, finish_reason, logprobs}`."""

    id: str
    created: int
    model: str
    choices: list[JSON]
    usage: Usage | None = None
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    bessemer: ResponseExtension | None = None


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
