"""Enumerable answers: the labels as a tree of tokens behind the prompt, scored in one pass.

A label's score is sum_t log pi(token_t | prompt, tokens before it) over its tokens and the terminator. Labels that
begin alike share nodes; only tokens that something follows need a forward pass. Row 0 of the scored rows is the last
token of the prompt, row 1 + i is node i.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from bessemer.core.errors import InvalidRequest

MAX_LABELS = 1000
MAX_LABEL_CHARACTERS = 2000
MAX_CHARACTERS = 64_000
"""Of all labels together; with the other two, known before any work is done for them."""


class LabelTree(NamedTuple):
    """Nodes in order, parents first."""

    tokens: tuple[int, ...]
    """Token of each node."""
    parents: tuple[int, ...]
    """Node before it; -1 is the prompt."""
    paths: tuple[tuple[int, ...], ...]
    """Tokens of each label, terminator included."""
    rows: tuple[tuple[int, ...], ...]
    """Per label: the row whose logits predict each of these tokens."""

    depths: tuple[int, ...]
    """How many tokens after the prompt each node stands; the first has depth 0."""


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that are too many, too long, empty or repeated. Raises InvalidRequest."""
    if len(labels) > MAX_LABELS:
        raise InvalidRequest(f"choices has {len(labels)} labels: give at most {MAX_LABELS}", param="choices")
    longest, total = max(map(len, labels), default=0), sum(map(len, labels))
    if longest > MAX_LABEL_CHARACTERS or total > MAX_CHARACTERS:
        raise InvalidRequest(
            f"choices has labels of up to {longest} characters, {total} in all: give at most {MAX_LABEL_CHARACTERS} "
            f"in one and {MAX_CHARACTERS} in all",
            param="choices",
        )
    if not labels or len(set(labels)) < len(labels):
        raise InvalidRequest("choices needs at least one label, and each only once", param="choices")
    if not all(labels):
        raise InvalidRequest("a label of choices is empty", param="choices")


def build_tree(labels: Sequence[Sequence[int]], terminator: int) -> LabelTree:
    """Build the tree of tokenised labels, each of at least one token; linear in their tokens."""
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    node_of: dict[tuple[int, int], int] = {}
    rows = []
    for label in labels:
        parent = -1
        label_rows = [0]
        for depth, token in enumerate(label):
            child = node_of.setdefault((parent, token), len(tokens))
            if child == len(tokens):
                tokens.append(token)
                parents.append(parent)
                depths.append(depth)
            parent = child
            label_rows.append(parent + 1)
        rows.append(tuple(label_rows))
    paths = tuple((*label, terminator) for label in labels)
    return LabelTree(tuple(tokens), tuple(parents), paths, tuple(rows), tuple(depths))


def tree_pairs(tree: LabelTree) -> list[tuple[int, int]]:
    """Return (row, token) of every token of every label, label after label."""
    return [pair for rows, path in zip(tree.rows, tree.paths, strict=True) for pair in zip(rows, path, strict=True)]


def label_scores(tree: LabelTree, flat: Sequence[float]) -> list[list[float]]:
    """Return the log-probabilities of `tree_pairs` per label."""
    scores, start = [], 0
    for path in tree.paths:
        scores.append(list(flat[start : start + len(path)]))
        start += len(path)
    return scores


def choose(scores: Sequence[float], temperature: float, uniform: float) -> int:
    """Return the index of the highest score, or one drawn from softmax(scores / temperature)."""
    highest = max(scores)
    if temperature == 0:
        return scores.index(highest)
    weights = [math.exp((score - highest) / temperature) for score in scores]
    target = uniform * sum(weights)
    for i, weight in enumerate(weights):
        target -= weight
        if target < 0:
            return i
    return scores.index(highest)
