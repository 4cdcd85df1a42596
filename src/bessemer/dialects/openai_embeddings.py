"""OpenAI's embeddings: a message of a conversation for each text, a vector for each in the answer.

What Bessemer does not read travels on to upstreams that speak the same dialect; tokens in place of a text mean
something to these alone.
"""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bessemer.core.conversation import Conversation, Message, Part
from bessemer.core.decoding import decode_with_others
from bessemer.core.errors import BessemerError, InvalidRequest
from bessemer.core.ids import EPISODE_ID
from bessemer.core.openai_embeddings import (
    EmbeddingExtension,
    EmbeddingList,
    EmbeddingObject,
    EmbeddingRequest,
    EmbeddingUsage,
)
from bessemer.core.reply import Reply, Usage, Vector
from bessemer.core.types import JSON
from bessemer.dialects.openai_chat_answers import extension_of

NAME = "openai_embeddings"
MOST_INPUTS = 2048
"""Of one request, as OpenAI has it."""


class OpenAIEmbeddings:
    """The dialect of POST /v1/embeddings."""

    name = NAME
    path = "/v1/embeddings"
    key_header = "authorization"
    streams = False
    takes = EmbeddingRequest
    gives = EmbeddingList

    def parse(self, body: bytes) -> "EmbeddingsAsked":
        """Read a request. See Dialect."""
        return _asked(*decode_with_others(EmbeddingRequest, body))

    def error(self, error: BessemerError) -> JSON:
        """Return OpenAI's error body."""
        return error.body()


@dataclass(frozen=True, slots=True)
class EmbeddingsAsked:
    """A checked request, and the form in which its vectors are wanted."""

    conversations: tuple[Conversation, ...]
    form: Literal["float", "base64"]

    def whole(self, replies: Sequence[Reply]) -> EmbeddingList:
        """Return the list of embeddings."""
        (reply,) = replies
        return EmbeddingList(
            data=[
                EmbeddingObject(embedding=_formed(vector, self.form), index=index)
                for index, vector in enumerate(reply.vectors)
            ],
            model=reply.model,
            usage=_usage(reply.usage),
            bessemer=extension_of(reply),
        )

    def events(self) -> None:
        """Return nothing: vectors come whole."""
        return


def _asked(request: EmbeddingRequest, more: JSON) -> EmbeddingsAsked:
    extension = request.bessemer or EmbeddingExtension()
    if request.dimensions is not None and request.dimensions < 1:
        raise InvalidRequest("dimensions must be 1 or more.", param="dimensions")
    if extension.episode_id is not None and not EPISODE_ID.fullmatch(extension.episode_id):
        raise InvalidRequest("bessemer.episode_id must be 1 to 128 characters without spaces.", param="episode_id")
    spelled: JSON = {"input": request.input, "encoding_format": request.encoding_format, "user": request.user}
    extra = more if request.dimensions is None else {"dimensions": request.dimensions} | more
    conversation = Conversation(
        model=request.model,
        messages=tuple(Message(role="user", content=content) for content in _contents(request.input)),
        embed=True,
        episode_id=extension.episode_id,
        tags=extension.tags,
        user=request.user,
        dialect=NAME,
        spelling={name: value for name, value in spelled.items() if value is not None},
        extra=extra,
    )
    return EmbeddingsAsked((conversation,), request.encoding_format or "float")


def _contents(given: str | list[Any]) -> list[str | tuple[Part, ...]]:
    """Return each text, or its tokens as a part that is no text. Raises InvalidRequest."""
    inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    if not 1 <= len(inputs) <= MOST_INPUTS:
        raise InvalidRequest(f"input holds {len(inputs)} texts; send 1 to {MOST_INPUTS}.", param="input")
    return [_content(one, "input" if inputs is not given else f"input[{index}]") for index, one in enumerate(inputs)]


def _content(one: Any, where: str) -> str | tuple[Part, ...]:
    if isinstance(one, str) and one:
        return one
    if isinstance(one, list) and one and all(type(token) is int and token >= 0 for token in one):
        return (Part(sent={"type": "input_tokens", "tokens": one}),)
    raise InvalidRequest(f"{where} must be a text that is not empty, or a list of token numbers.", param=where)


def _formed(vector: Vector, form: Literal["float", "base64"]) -> Vector:
    """Return a vector in the form that is wanted, whichever its maker gave."""
    if isinstance(vector, str):
        return vector if form == "base64" else _numbers(vector)
    return vector if form == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _numbers(text: str) -> list[float]:
    content = base64.b64decode(text)
    return list(struct.unpack(f"<{len(content) // 4}f", content))


def _usage(usage: Usage | None) -> EmbeddingUsage | None:
    if usage is None or usage.input_tokens is None:
        return None
    return EmbeddingUsage(prompt_tokens=usage.input_tokens, total_tokens=usage.input_tokens)
