"""Which fields of an item a grader reads: where the right answer is to be found in a file of one's own."""

import re
from collections.abc import Mapping
from typing import Any

from bessemer.core.types import JSON

_LEARNED = ("answer", "verdict", "demonstration")
"""What the grader `feedback` reads, without naming it."""
_READ = re.compile(
    r"\bitem\.(?!get\b)(\w+)"  # {{item.x}}
    r"|\bitem(?:\.get\(|\[)\s*['\"](\w+)['\"]"  # item["x"], item.get("x")
    r"|\bmetadata['\"]?\]?(?:\.get\(|\[)\s*['\"](\w+)['\"]"  # Bedrock's reward function
)


def fields_read(grader: JSON) -> tuple[str, ...]:
    """Return the names of the item's fields that a grader's templates and source mention, in order, each once."""
    found: dict[str, None] = {}
    for text in _texts(grader):
        for match in _READ.finditer(text):
            found[next(name for name in match.groups() if name)] = None
    for kind in _kinds(grader):
        if kind == "feedback":
            found |= dict.fromkeys(_LEARNED)
        elif kind == "attributes" and "reference" not in grader:
            found["target"] = None
    return tuple(found)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for part in parts for text in _texts(part)]


def _kinds(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        own = [value["type"]] if isinstance(value.get("type"), str) else []
        return own + [kind for part in value.values() for kind in _kinds(part)]
    return [kind for part in value for kind in _kinds(part)] if isinstance(value, list | tuple) else []
