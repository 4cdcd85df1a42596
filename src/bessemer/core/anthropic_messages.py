"""The wire objects of Anthropic's Messages (https://docs.anthropic.com/en/api/messages; its Python client 2.14).

Of a request these are the fields that Bessemer reads. Blocks and tools are JSON here: what they are is told by their
`type`.
"""

from typing import Literal

from bessemer.core.bounds import Name
from bessemer.core.openai import StrictWire, Wire
from bessemer.core.openai_chat import RequestExtension, ResponseExtension
from bessemer.core.types import JSON


class MessageRequest(StrictWire):
    """Body of POST /v1/messages."""

    model: Name
    messages: list[JSON]
    max_tokens: int
    system: str | list[JSON] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[JSON] | None = None
    tool_choice: JSON | None = None
    metadata: JSON | None = None
    output_config: JSON | None = None
    thinking: JSON | None = None
    """Read and not used: a model thinks as it does by itself."""
    cache_control: JSON | None = None
    """The same: what is cached where is the upstream's."""
    service_tier: Name | None = None
    stream: bool | None = None
    bessemer: RequestExtension | None = None


class MessageUsage(Wire, omit_defaults=False):
    """Token counts; those of the input without what was read from a cache."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class MessageObject(Wire, omit_defaults=False):
    """Answer of POST /v1/messages."""

    id: str
    model: str
    content: list[JSON]
    usage: MessageUsage
    """Zeros where nothing is known: the field has to be there."""
    stop_reason: str | None = None
    stop_sequence: None = None
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    bessemer: ResponseExtension | None = None
