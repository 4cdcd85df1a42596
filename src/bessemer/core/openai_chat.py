"""The wire objects of OpenAI's chat completions (OpenAPI 3.1 description of the OpenAI API).

Of a request these are the fields that Bessemer reads; what else it has is for upstreams of the same dialect. Extensions
are `bessemer` (structured input, episode, tags) and vLLM's `structured_outputs`. Responses carry `bessemer` with the
inference id beside OpenAI's own fields.
"""

from typing import Literal

import msgspec

from bessemer.core.bounds import Name, Tags, Value
from bessemer.core.datasets import Split
from bessemer.core.openai import StrictWire, Wire
from bessemer.core.types import JSON


class RequestExtension(StrictWire):
    """Bessemer's own request field."""

    input: JSON | None = None
    """Structured input; each target renders it through its own prompt."""
    episode_id: Name | None = None
    tags: Tags = msgspec.field(default_factory=dict)
    split: Split | None = None
    """The split of data sets that this input belongs to, whatever its hash; for keys that may contribute."""
    cache: Literal["on", "refresh", "off"] = "on"
    """Of a route that keeps answers: take a kept one, ask anew and keep that, or do neither."""


class StructuredOutputs(StrictWire):
    """vLLM's `structured_outputs`: exactly one of them."""

    choice: list[str] | None = None
    json: JSON | None = None
    regex: str | None = None
    grammar: str | None = None


class StreamOptions(StrictWire):
    """Options of a streamed answer."""

    include_usage: bool = False
    include_obfuscation: bool | None = None
    """Of OpenAI, and the next of vLLM: how its own stream is padded and what it counts; ours is as it is."""
    continuous_usage_stats: bool | None = None


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
    tools: list[JSON] | None = None
    tool_choice: Name | JSON | None = None
    response_format: JSON | None = None
    structured_outputs: StructuredOutputs | None = None
    logit_bias: dict[str, float] | None = None
    user: Value | None = None
    metadata: Tags | None = None
    bessemer: RequestExtension | None = None


class ChatUsage(Wire):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: JSON | None = None
    completion_tokens_details: JSON | None = None


class ChatMessage(Wire, omit_defaults=False):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    """What the model thought before it answered; only where the upstream tells it."""
    tool_calls: list[JSON] | msgspec.UnsetType = msgspec.UNSET


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
    feedback_wanted: bool | None = None
    """The audit drew this answer: a verdict on it counts for what the route promises."""
    guarantee: Literal["holds", "void"] | None = None


class ChatCompletion(Wire, omit_defaults=False):
    """Answer of POST /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage | None = None
    object: Literal["chat.completion"] = "chat.completion"
    system_fingerprint: str | None = None
    bessemer: ResponseExtension | None = None


class ChatDelta(Wire):
    """What one event adds to an answer; all of it is left out where there is nothing to add."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[JSON] | None = None


class ChunkChoice(Wire, omit_defaults=False):
    """One answer's part of an event."""

    index: int
    delta: ChatDelta
    logprobs: JSON | None = None
    finish_reason: str | None = None
    """None until the answer's last event."""


class ChatCompletionChunk(Wire, omit_defaults=False):
    """One server-sent event of a streamed answer."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    """Empty in the event that tells the usage."""
    usage: ChatUsage | None = None
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    bessemer: ResponseExtension | None = None
    """In the first event of an answer its inference id, in the last one all of it."""
