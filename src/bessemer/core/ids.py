"""Identifiers: a prefix that names the noun, then a UUIDv7 (RFC 9562) in hex, so ids sort by creation time."""

import logging
import os
import re
import threading
import time
from collections.abc import Iterator

EPISODE_ID = re.compile(r"[^\s\x00-\x1f]{1,128}")
"""An episode is named by the client: short, so that every database can index it, and without spaces."""


_RANDOM_BITS = 74
_DRAWN = 64
_TOLD_MS = 1000
"""A clock that goes back by less is corrected often and worth no word."""
_log = logging.getLogger(__name__)


def _draws() -> Iterator[int]:
    """Yield 80 random bits each. The system is asked for many at once: to ask takes longer than to make an id."""
    while True:
        drawn = os.urandom(10 * _DRAWN)
        for start in range(0, len(drawn), 10):
            yield int.from_bytes(drawn[start : start + 10], "big")


class _Sequence:
    """Makes ids that only grow, whatever the clock does (RFC 9562 §6.2, monotonic random)."""

    def __init__(self) -> None:
        self._draws = _draws()
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._random = 0
        self._back = False

    def next(self) -> int:
        """Return milliseconds and random bits of the next id as one number."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            random = next(self._draws)
            if now > self._milliseconds:
                self._milliseconds, self._random = now, random >> (80 - _RANDOM_BITS)
                self._back = False
            else:
                if self._milliseconds - now > _TOLD_MS and not self._back:
                    self._back = True
                    _log.warning(
                        "the clock went back by %.1f s: ids go on in the order of their making, times do not",
                        (self._milliseconds - now) / 1000,
                    )
                self._random += 1 + (random >> 48)  # up to 2^32: what comes next can't be guessed
                if self._random >> _RANDOM_BITS:
                    self._milliseconds, self._random = self._milliseconds + 1, random >> (80 - _RANDOM_BITS + 1)
            return (self._milliseconds << _RANDOM_BITS) | self._random

    def redraw(self) -> None:
        """Draw anew what was drawn ahead: a copy of this process draws the same."""
        self._draws = _draws()

    def follow(self, milliseconds: int) -> None:
        """Let the next id come after those of a time."""
        with self._lock:
            if milliseconds >= self._milliseconds:
                self._milliseconds, self._random = milliseconds + 1, 0


_sequence = _Sequence()
os.register_at_fork(after_in_child=_sequence.redraw)


def uuid7_hex() -> str:
    """Return a UUIDv7 as 32 hex digits: 48 bits of Unix milliseconds, version, variant, 74 random (RFC 9562 §5.7).

    Of one process each is greater than those before, even when the clock is set back.
    """
    number = _sequence.next()
    milliseconds, random = number >> _RANDOM_BITS, number & ((1 << _RANDOM_BITS) - 1)
    high = (milliseconds << 16) | 0x7000 | random >> 62
    low = (0b10 << 62) | random & ((1 << 62) - 1)
    return f"{(high << 64) | low:032x}"


def follow_id(identifier: str) -> None:
    """Let new ids come after one that another process made; what is no UUIDv7 says nothing."""
    digits = identifier.rpartition("-")[2]
    if re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{19}", digits):
        _sequence.follow(int(digits[:12], 16))


def new_id(prefix: str) -> str:
    """Return a new id such as `inf-0192…`.

    Prefixes: inf, call, ep, fb, ds, eval, chatcmpl, file, ftjob, ftevent, event, ftckpt, key, req.
    """
    return f"{prefix}-{uuid7_hex()}"
