"""Identifiers: a prefix that names the noun, then a UUIDv7 (RFC 9562) in hex, so ids sort by creation time."""

import os
import re
import time

EPISODE_ID = re.compile(r"[^\s\x00-\x1f]{1,128}")
"""An episode is named by the client: short, so that every database can index it, and without spaces."""


def uuid7_hex() -> str:
    """Return a UUIDv7 as 32 hex digits: 48 bits of Unix milliseconds, version, variant, 74 random (RFC 9562 §5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high = (milliseconds << 16) | 0x7000 | (random >> 68) & 0x0FFF
    low = (0b10 << 62) | random & ((1 << 62) - 1)
    return f"{(high << 64) | low:032x}"


def new_id(prefix: str) -> str:
    """Return a new id such as `inf-0192…`.

    Prefixes: inf, call, ep, fb, ds, eval, chatcmpl, file, ftjob, ftevent, ftckpt, key, req.
    """
    return f"{prefix}-{uuid7_hex()}"
