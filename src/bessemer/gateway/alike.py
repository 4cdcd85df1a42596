"""The semantic cache: a question that only means the same as one before, where checks have shown that few are wrong.

Two questions are compared where all else that decides the answer is the same to the byte: only the text of the last
message may differ. The sentence encoder finds the nearest, `likeness` rules out what turns a meaning, and of what is
left a drawn share is asked anyway and compared. Without enough checks, or with too many wrong, nothing is given.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import structlog

from bessemer.core.errors import BessemerError
from bessemer.core.routes import SemanticPolicy
from bessemer.engine.rungs.head import Vectors
from bessemer.gateway.false_hits import FalseHits
from bessemer.gateway.likeness import may_be_alike
from bessemer.telemetry.metrics import Metrics

Embedded: TypeAlias = Callable[[Sequence[str]], Awaitable[tuple[Vectors, list[int]]]]
_LONGEST: Final = 2_000
"""Characters of a question that is compared: an encoder reads few tokens, and long texts differ in details."""
_PER_SHELF: Final = 2_000
_IN_ALL: Final = 20_000
"""Questions that are remembered: those of one scope, and all."""
_ROUTES: Final = 1_000
_EXAMINED: Final = 8
"""Nearest questions that are looked at."""
_REST_S: Final = 600.0
"""Seconds until an encoder that could not be had is tried again."""
log = structlog.get_logger("bessemer.cache")


class AskedText(NamedTuple):
    """A question, with the digest of all else that decides its answer."""

    scope: bytes
    text: str
    vector: Vectors


@dataclass(slots=True)
class _Shelf:
    """Questions of one scope, in a ring."""

    vectors: Vectors
    kept: list[tuple[bytes, str]] = field(default_factory=list)
    following: int = 0

    def put(self, key: bytes, asked: AskedText) -> None:
        if len(self.kept) < _PER_SHELF:
            if len(self.kept) == len(self.vectors):
                self.vectors = np.concatenate([self.vectors, np.zeros_like(self.vectors)])
            self.vectors[len(self.kept)] = asked.vector
            self.kept.append((key, asked.text))
            return
        self.vectors[self.following] = asked.vector
        self.kept[self.following] = (key, asked.text)
        self.following = (self.following + 1) % _PER_SHELF


class AlikeQuestions:
    """Remembers questions whose answers are kept, and what checks have shown. Used on one event loop."""

    def __init__(self, embedded: Embedded, metrics: Metrics | None = None) -> None:
        self._embedded, self._metrics = embedded, metrics
        self._shelves: OrderedDict[bytes, _Shelf] = OrderedDict()
        self._evidence: OrderedDict[tuple[bytes, SemanticPolicy], FalseHits] = OrderedDict()
        self._opening: asyncio.Task[bool] | None = None
        self._tried = 0.0
        self._checks: set[asyncio.Task[None]] = set()

    async def read(self, scope: bytes, text: str) -> AskedText | None:
        """Return a question with its vector; None: it is not to be compared, or there is no encoder (yet)."""
        if not text.strip() or len(text) > _LONGEST or not self._open():
            return None
        try:
            vectors, _ = await self._embedded([text])
        except BessemerError:
            return None  # too long for the encoder
        return AskedText(scope, text, _unit(vectors)[0])

    def nearest(self, asked: AskedText, least: float, is_kept: Callable[[bytes], bool]) -> bytes | None:
        """Return the key of the nearest question of the scope that may mean the same and whose answer is kept."""
        shelf = self._shelves.get(asked.scope)
        if shelf is None:
            return None
        self._shelves.move_to_end(asked.scope)
        near = shelf.vectors[: len(shelf.kept)] @ asked.vector
        places: list[int] = np.argsort(-near)[:_EXAMINED].tolist()
        for place in places:
            key, text = shelf.kept[place]
            if float(near[place]) < least:
                return None
            if may_be_alike(asked.text, text) and is_kept(key):
                return key
        return None

    def remember(self, asked: AskedText, key: bytes) -> None:
        """Keep a question whose answer is kept under that key."""
        shelves = self._shelves
        shelf = shelves.get(asked.scope)
        if shelf is None:
            shelf = shelves[asked.scope] = _Shelf(np.zeros((8, len(asked.vector)), np.float32))
        shelf.put(key, asked)
        while sum(len(one.vectors) for one in shelves.values()) > _IN_ALL and len(shelves) > 1:
            shelves.popitem(last=False)

    def clear(self) -> None:
        """Forget the questions, not what checks have shown. Any thread."""
        self._shelves = OrderedDict()

    def evidence(self, behind: bytes, policy: SemanticPolicy) -> FalseHits:
        """Return what checks have shown of a route, by what stands behind it and who asks, and of a policy."""
        found = self._evidence.get((behind, policy))
        if found is None:
            found = self._evidence[behind, policy] = FalseHits(policy.budget)
            if len(self._evidence) > _ROUTES:
                self._evidence.popitem(last=False)
        self._evidence.move_to_end((behind, policy))
        return found

    def check(self, route: str, found: FalseHits, policy: SemanticPolicy, kept: str, anew: str) -> None:
        """Compare the answer that would have been given with the model's own."""
        if policy.same_answer is None or _plain(kept) == _plain(anew):
            self._add(route, found, wrong=_plain(kept) != _plain(anew))
            return
        task = asyncio.create_task(self._compare(route, found, policy.same_answer, kept, anew))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _compare(self, route: str, found: FalseHits, least: float, kept: str, anew: str) -> None:
        try:
            vectors, _ = await self._embedded([kept, anew])
        except BessemerError:
            self._add(route, found, wrong=True)  # what cannot be compared counts against it
            return
        first, second = _unit(vectors)
        self._add(route, found, wrong=float(first @ second) < least or not may_be_alike(kept, anew))

    def _add(self, route: str, found: FalseHits, *, wrong: bool) -> None:
        before = found.proven
        found.add(wrong=wrong)
        if found.proven != before:
            log.info("alike answers", route=route, given=found.proven, checked=found.checked, wrong=found.wrong)
        if self._metrics is not None:
            self._metrics.alike(route, wrong=wrong, bound=found.bound, given=found.proven)

    def _open(self) -> bool:
        """Tell whether there is an encoder; the first question has it loaded, and waits for it no more than others."""
        if self._opening is None or (
            self._opening.done() and not self._opening.result() and time.monotonic() - self._tried > _REST_S
        ):
            self._tried = time.monotonic()
            self._opening = asyncio.create_task(self._try())
        return self._opening.done() and self._opening.result()

    async def _try(self) -> bool:
        try:
            await self._embedded(["a question"])
        except Exception as error:  # whatever is wrong with the encoder, the question can be asked
            log.warning("no encoder: answers to questions that mean the same are not given", reason=str(error))
            return False
        return True


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .!\"'`")
