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
    """Return the label that `text` is; or, in prose, the one that it says; None when that is none or unclear.

    Prose says a label that it begins with, set off by a mark ("Yes, there is no difference"), or the only one that it
    mentions, in whole words, at its beginning or its end ("The answer is Yes.").
    """
    if text is None:
        return None
    said = plain(text)
    for label in labels:
        if plain(label) == said:
            return label
    words = {label: re.escape(plain(label)) for label in labels}
    set_off = [label for label, word in words.items() if re.match(word + r"\W*[.,;:!\n\u2013\u2014]", said)]
    if len(set_off) == 1:
        return set_off[0]
    mentions = [label for label, word in words.items() if re.search(rf"(?<!\w){word}(?!\w)", said)]
    if len(mentions) != 1:
        return None
    word = words[mentions[0]]
    return mentions[0] if re.search(rf"^{word}(?!\w)|(?<!\w){word}$", said) else None


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
