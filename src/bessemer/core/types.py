"""What nouns are made of, and the few that all modules share. One meaning each (docs/architecture.md)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

JSON = dict[str, Any]
DEFAULT_PROJECT = "proj_default"
"""The project of what was made before there were projects, and of keys that name none."""


class Frozen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """Base of all nouns: immutable, keyword-only, unknown fields refused."""


class JobStatus(StrEnum):
    """OpenAI's statuses, and `paused`, which their own examples return."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Interval(Frozen, frozen=True):
    """A point estimate with its confidence interval."""

    value: float
    low: float
    high: float
    level: float = 0.95
    method: str = "paired bootstrap"


def as_json(value: msgspec.Struct | Mapping[str, Any]) -> JSON:
    """Return a noun as plain JSON types."""
    result = msgspec.to_builtins(value, str_keys=True)
    assert isinstance(result, dict)
    return result
