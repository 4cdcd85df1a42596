"""What service, keeper and server agree on. Messages: 4 bytes of length, big endian, then JSON."""

import json
import struct
from typing import Any, BinaryIO

Json = dict[str, Any]
SCRATCH_PATH = "/tmp/grader"  # noqa: S108 -- in a root of its own
MAX_ANSWER = 1 << 20
"""Bytes of a server's answer."""


def frame(message: Any) -> bytes:
    """Return one message as bytes."""
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next message's JSON, None at the end of the stream."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    return stream.read(struct.unpack(">I", head)[0])


def send(stream: BinaryIO, data: bytes) -> None:
    """Write and flush."""
    stream.write(data)
    stream.flush()
