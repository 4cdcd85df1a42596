"""From a request to what a rung reads: the same for the fit, from records, and for the answer, from what was sent."""

from collections.abc import Mapping, Sequence
from typing import Any

from bessemer.core.types import JSON
from bessemer.engine.rungs.rung import RungItem


def item_of(input: JSON | None, messages: Sequence[Mapping[str, Any]]) -> RungItem:
    """Return the item of a request: its structured input where it has one, else what its messages say.

    `messages` are in the plain form (`Message.plain`). Instructions (`system`, `developer`) are the same for every
    request of a route and are left out.
    """
    if input is not None:
        return RungItem(input=input)
    said = (_text(one.get("content")) for one in messages if one.get("role") not in ("system", "developer"))
    return RungItem(text="\n".join(said))


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "".join(text for text in texts if isinstance(text, str))
