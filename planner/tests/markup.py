"""Markup in every text of a noun, to see that a page shows it as text."""

from typing import Any

import msgspec

PAYLOAD = "<img src=x onerror=alert(1)>\"'"


def poisoned(value: Any) -> Any:
    """Return a noun with markup in each of its texts."""
    if type(value) is str:
        return value + PAYLOAD
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{name: poisoned(getattr(value, name)) for name in value.__struct_fields__}
        )
    if isinstance(value, list | tuple):
        items = [poisoned(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: poisoned(item) for key, item in value.items()}
    return value
