"""What a client is told of a value that is not of its type: the field by its dotted path, and what is wrong with it."""

import re

import msgspec

from bessemer.core.errors import InvalidRequest

_PATH = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")
_FIELD = re.compile(r"(?:unknown|required) field `(?P<field>[^`]*)`")
_SHOWN = 64 * 1024


def invalid(error: msgspec.ValidationError, inside: str = "") -> InvalidRequest:
    """Turn msgspec's message into an InvalidRequest whose `param` is the dotted path of the field.

    `inside`: the path of the value that was read, where it was a part of a body.
    """
    text = str(error)
    if len(text) > _SHOWN:  # an unknown field whose name is most of the body
        text = f"{text[:200]}` …"
    where = _PATH.search(text)
    path = where["path"] if where else ""
    problem = text[: where.start()] if where else text
    field = _FIELD.search(problem)
    names = [
        inside,
        *re.sub(r"\[(\d+)\]", r".\1", path).strip(".").replace("[...]", ".*").split("."),
        field["field"] if field else "",
    ]
    param = ".".join(name for name in names if name) or None
    if problem.startswith("Object contains unknown field"):
        return InvalidRequest(f"Unknown parameter: {param!r}. Remove it.", param=param, code="unknown_parameter")
    if problem.startswith("Object missing required field"):
        message = f"Missing required parameter: {param!r}."
        return InvalidRequest(message, param=param, code="missing_required_parameter")
    subject = f"Invalid value for {param!r}" if param else "Invalid body"
    return InvalidRequest(f"{subject}: {problem[:1].lower()}{problem[1:]}.", param=param, code="invalid_type")
