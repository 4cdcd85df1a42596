"""Templates in the form of OpenAI's graders: `{{item.title}}`, `{{sample.output_text}}`. No logic, no loops."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.types import JSON, Prompt

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w-]*(?:\.[\w-]+)*)\s*\}\}")


def look_up(path: str, scope: Mapping[str, Any]) -> Any:
    """Return the value at a dotted path; list indexes are numbers. Raises InvalidRequest naming the missing part."""
    value: Any = scope
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise InvalidRequest(f"The template refers to {path!r}, but {part!r} is not there.", param=path)
    return value


def render(template: str, scope: Mapping[str, Any]) -> str:
    """Fill every placeholder: strings as they are, other values as JSON. Raises InvalidRequest for an unknown name."""

    def fill(match: re.Match[str]) -> str:
        value = look_up(match[1], scope)
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    return _PLACEHOLDER.sub(fill, template)


def placeholders(template: str) -> tuple[str, ...]:
    """Return the dotted paths that a template refers to, in order of appearance."""
    return tuple(match[1] for match in _PLACEHOLDER.finditer(template))


def render_messages(prompt: Prompt, input: JSON) -> tuple[JSON, ...]:
    """Return the chat messages of a prompt filled with structured input: the system message if any, then the user's.

    Raises InvalidRequest that names a placeholder the input lacks.
    """
    scope = {"input": input}
    user = {"role": "user", "content": render(prompt.user, scope)}
    if prompt.system is None:
        return (user,)
    return ({"role": "system", "content": render(prompt.system, scope)}, user)
