"""Markup in every text of a noun, to see that a page shows it as text."""

from html.parser import HTMLParser
from typing import Any

import msgspec

PAYLOADS = (
    "<img src=x onerror=alert(1)>\"'",
    "</title></style></svg><script>alert(1)</script>",
    "\" onmouseover=\"alert(1)' onmouseover='alert(1)",
    "<!-- ]]> {{ 7 * 7 }} {% raw %} &lt;b&gt;",
)


def poisoned(value: Any, payload: str = PAYLOADS[0]) -> Any:
    """Return a noun with markup in each of its texts."""
    if type(value) is str:
        return value + payload
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(
            value, **{name: poisoned(getattr(value, name), payload) for name in value.__struct_fields__}
        )
    if isinstance(value, list | tuple):
        items = [poisoned(item, payload) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: poisoned(item, payload) for key, item in value.items()}
    return value


class Elements(HTMLParser):
    """What a page is made of: the tags and the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[tuple[str, ...]] = set()
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, *(name for name, _ in attrs)))

    def handle_comment(self, data: str) -> None:
        self.tags.add(("comment", data))

    def handle_data(self, data: str) -> None:
        self.text += data
