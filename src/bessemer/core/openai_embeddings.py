"""The wire objects of OpenAI's embeddings (OpenAPI 3.1 description of the OpenAI API)."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from bessemer.core.bounds import Name, Tags, Value
from bessemer.core.openai import StrictWire, Wire
from bessemer.core.openai_chat import ResponseExtension


class EmbeddingExtension(StrictWire):
    """Bessemer's own request field."""

    episode_id: Name | None = None
    tags: Tags = msgspec.field(default_factory=dict)


class EmbeddingRequest(StrictWire):
    """Body of POST /v1/embeddings."""

    model: Name
    input: str | list[Any]
    """A text, texts, the tokens of a text, or those of several."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: Value | None = None
    bessemer: EmbeddingExtension | None = None


class EmbeddingObject(Wire, omit_defaults=False):
    """The vector of one text."""

    embedding: Sequence[float] | str
    index: int
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(Wire, omit_defaults=False):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Wire, omit_defaults=False):
    """Answer of POST /v1/embeddings."""

    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage | None = None
    object: Literal["list"] = "list"
    bessemer: ResponseExtension | None = None
