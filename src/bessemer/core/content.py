"""Content addressing: one canonical JSON form and its SHA-256, used for datasets, prompts, inputs and blobs."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from bessemer.core.pieces import in_pieces

_encoder = msgspec.json.Encoder(order="deterministic")


HASH_VERSION = 2
"""Of `input_hash`. Version 1 hashed messages as they were sent, spelling and all."""


def canonical_json(value: Any) -> bytes:
    """Encode a value as JSON with sorted keys and no spaces: equal values give equal bytes."""
    return _encoder.encode(in_pieces(value))


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def content_hash(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON."""
    return sha256_hex(canonical_json(value))


def input_hash(input: dict[str, Any] | None, messages: Sequence[dict[str, Any]]) -> str:
    """Return the hash of what was asked: structured input, or else messages, in one spelling for all clients.

    Of a message counts what reaches a model: its role and its text, parts joined. Texts are compared byte by byte,
    without Unicode normalisation, because models see the difference. Equal to version 1 for messages of plain text.
    """
    return content_hash(canonical_messages(messages) if input is None else input)


def canonical_messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as role and text alone; a content that is no text and no list of text parts stays as it is."""
    return [{"role": message.get("role"), "content": _text(message.get("content"))} for message in messages]


def _text(content: Any) -> Any:
    if not isinstance(content, list) or not content:
        return content
    texts: list[str] = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            return content
        texts.append(part["text"])
    return "".join(texts)
