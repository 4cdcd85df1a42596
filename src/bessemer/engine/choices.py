"""Enumerable answers: the labels as a tree of tokens behind the prompt, scored in one pass.

A label's score is sum_t log pi(token_t | prompt, tokens before it) over its tokens and the terminator. Labels that
begin alike share nodes; only tokens that something follows need a forward pass. Row 0 of the scored rows is the last
token of the prompt, row 1 + i is node i.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


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


def build_tree(labels: Sequence[Sequence[int]], terminator: int) -> LabelTree:
    """Build the tree of tokenised labels, each of at least one token."""
    tokens: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    node_of: dict[tuple[int, ...], int] = {}
    rows = []
    for label in labels:
        parent = -1
        label_rows = [0]
        for end in range(1, len(label) + 1):
            prefix = tuple(label[:end])
            if prefix not in node_of:
                node_of[prefix] = len(tokens)
                tokens.append(label[end - 1])
                parents.append(parent)
                depths.append(end - 1)
            parent = node_of[prefix]
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
