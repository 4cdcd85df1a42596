"""The kinds of rungs, by the name that an artefact gives."""

from collections.abc import Callable
from pathlib import Path

from bessemer.core.errors import EngineError
from bessemer.engine.rungs import committee, embedding, head, linear, pairs, rules
from bessemer.engine.rungs.artefact import MAX_ARRAYS, Artefact, read
from bessemer.engine.rungs.rung import Majority, Rung

MAJORITY = "majority"
KINDS: dict[str, Callable[[Artefact], Rung]] = {
    MAJORITY: Majority,
    rules.KIND: rules.Rules,
    linear.KIND: linear.Linear,
    pairs.KIND: pairs.Pairs,
    embedding.KIND: embedding.EmbeddingRung,
    head.HeadKind.ENCODER: head.Head,
    head.HeadKind.STATES: head.Head,
    committee.KIND: lambda artefact: committee.Committee(artefact, open_rung),
}

MEMBERS = (rules.KIND, linear.KIND, pairs.KIND, embedding.KIND)
"""Kinds that a committee is made of, as far as they suit."""


def open_rung(artefact: Artefact) -> Rung:
    """Return the rung that an artefact holds. Raises EngineError for an unknown kind, or arrays that are not its."""
    kind = artefact.manifest.kind
    if kind not in KINDS:
        raise EngineError(f"A rung of kind {kind!r} is not known here; known: {', '.join(KINDS)}.")
    return KINDS[kind](artefact)


def load(folder: Path, *, sha256: str | None = None, max_bytes: int = MAX_ARRAYS) -> Rung:
    """Read and open the rung in a folder; with `sha256`, that one and no other. Raises EngineError."""
    return open_rung(read(folder, sha256=sha256, max_bytes=max_bytes))
