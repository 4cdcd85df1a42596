"""What feedback says about the right label: parsing answers and settling the truth.

A wrong verdict on one of two labels makes the other one right; among more labels it leaves the truth open.
"""

import re
from collections.abc import Sequence

_EDGE = re.compile(r"^[\s\"'`*.]+|[\s\"'`*.,!;:]+$")


def plain(text: str) -> str:
    """Return text for comparing labels: trimmed of space, quotes and end marks, case folded."""
    return _EDGE.sub("", text).casefold()


def parse_label(text: str | None, labels: Sequence[str]) -> str | None:
    """Return the one label that `text` is, or begins with as a whole word; None when it is none or unclear."""
    if text is None:
        return None
    said = plain(text)
    for label in labels:
        if plain(label) == said:
            return label
    begins = [label for label in labels if re.match(re.escape(plain(label)) + r"\b", said)]
    mentions = [label for label in labels if re.search(r"\b" + re.escape(plain(label)) + r"\b", said)]
    return begins[0] if len(begins) == 1 and mentions == begins else None


def truth(
    answer: str | None,
    verdict: bool | None,  # noqa: FBT001 -- the three parts of an example, in their order
    demonstration: str | None,
    labels: Sequence[str] = (),
) -> str | None:
    """Return the right answer when the feedback settles it, else None.

    A demonstration is the truth; a right verdict makes the answer the truth; a wrong one settles it only between two
    labels. With `labels`, the truth is one of them, spelt as there.
    """
    if demonstration is not None:
        return parse_label(demonstration, labels) if labels else demonstration
    if verdict is None or answer is None:
        return None
    if verdict:
        return parse_label(answer, labels) if labels else answer
    said = parse_label(answer, labels)
    if said is None or len(labels) != 2:
        return None
    return labels[1] if said == labels[0] else labels[0]
