"""Writes registry configurations as TOML: sections of strings, numbers, lists and nested tables."""

from collections.abc import Mapping
from typing import Any

import msgspec

Table = Mapping[str, Any]


def toml(sections: Mapping[str, Mapping[str, Table]], *, include_default: bool = True) -> str:
    """Return TOML text of `{section: {name: {key: value}}}`; None values are left out."""
    lines = [f"include_default = {str(include_default).lower()}"]
    for section, tables in sections.items():
        for name, table in tables.items():
            lines += _table(f"{section}.{_string(name)}", table)
    return "\n".join(lines) + "\n"


def _table(path: str, table: Table) -> list[str]:
    plain = {key: value for key, value in table.items() if value is not None and not isinstance(value, Mapping)}
    lines = ["", f"[{path}]", *(f"{key} = {_value(value)}" for key, value in plain.items())]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _table(f"{path}.{key}", value)
    return lines


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return _string(str(value))


def _string(text: str) -> str:
    """A TOML basic string: JSON's escapes are all valid in it, and DEL must be escaped too."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")
