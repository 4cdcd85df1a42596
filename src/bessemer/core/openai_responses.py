"""The wire objects of OpenAI's Responses (OpenAPI 3.1 description of the OpenAI API).

Of a request these are the fields that Bessemer reads. Items, tools and formats are JSON here: what they are is told by
their `type`.
"""

from typing import Any, Literal

import msgspec

from bessemer.core.bounds import Name, Tags, Value
from bessemer.core.openai import StrictWire, Wire
from bessemer.core.openai_chat import RequestExtension, ResponseExtension
from bessemer.core.types import JSON


class ResponseRequest(StrictWire):
    """Body of POST /v1/responses."""

    model: Name
    input: str | list[JSON] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[JSON] | None = None
    tool_choice: Name | JSON | None = None
    parallel_tool_calls: bool | None = None
    text: JSON | None = None
    reasoning: JSON | None = None
    include: list[Name] | None = None
    metadata: Tags | None = None
    user: Value | None = None
    safety_identifier: Value | None = None
    prompt_cache_key: Value | None = None
    prompt_cache_retention: Name | None = None
    service_tier: Name | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: JSON | None = None
    truncation: Name | None = None
    background: bool | None = None
    previous_response_id: Name | None = None
    conversation: Name | JSON | None = None
    prompt: JSON | None = None
    max_tool_calls: int | None = None
    bessemer: RequestExtension | None = None


class ResponseUsage(Wire, omit_defaults=False):
    """Token counts."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: JSON
    output_tokens_details: JSON


class ResponseObject(Wire, omit_defaults=False):
    """Answer of POST /v1/responses."""

    id: str
    created_at: int
    model: str
    status: Literal["completed", "incomplete", "in_progress", "failed"]
    output: list[JSON]
    object: Literal["response"] = "response"
    completed_at: int | None = None
    error: JSON | None = None
    incomplete_details: JSON | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: Tags = msgspec.field(default_factory=dict)
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    reasoning: JSON = msgspec.field(default_factory=lambda: {"effort": None, "summary": None})
    store: bool = False
    """Nothing is kept to be asked for again."""
    temperature: float | None = None
    text: JSON = msgspec.field(default_factory=lambda: {"format": {"type": "text"}})
    tool_choice: Any = "auto"
    tools: list[JSON] = msgspec.field(default_factory=list)
    top_logprobs: int = 0
    top_p: float | None = None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    bessemer: ResponseExtension | None = None
