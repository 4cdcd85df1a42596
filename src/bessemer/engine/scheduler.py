"""Which tokens are computed in the next step: sequences join as others leave, prompts are cut to the step's budget.

Running sequences come first; then waiting ones are admitted while there is room in the step, the batch and memory. A
request whose prompt continues a prefix that is being computed right now waits for it, and a request with the very same
prompt as one admitted in this step follows that one: it takes over its keys and values and computes nothing.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from bessemer.core.errors import InvalidRequest
from bessemer.engine.cache import BLOCK, BlockCache
from bessemer.engine.sequence import Sequence

_LOOKAHEAD = 256
"""Waiting requests that are considered in one step."""


class Work(NamedTuple):
    """The next `size` tokens of a sequence, and sequences with the same prompt that take over its result."""

    sequence: Sequence
    size: int
    with_tree: bool
    followers: list[Sequence]

    @property
    def rows(self) -> int:
        """Rows of the step, tree nodes included."""
        tree = self.sequence.tree
        return self.size + (len(tree.tokens) if self.with_tree and tree else 0)


class Scheduler:
    """Owner of the waiting and running sequences."""

    def __init__(self, cache: BlockCache, *, max_batch_tokens: int, max_running: int) -> None:
        self._cache = cache
        self._max_batch_tokens = max_batch_tokens
        self._max_running = max_running
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def enqueue(self, sequence: Sequence) -> None:
        """Let a sequence wait. Raises InvalidRequest when it can never fit."""
        if _blocks(sequence.needed) > self._cache.n_blocks - 1:
            raise InvalidRequest(
                f"prompt and answer need room for {sequence.needed} tokens, the engine has "
                f"{(self._cache.n_blocks - 1) * BLOCK}: lower max_tokens or shorten the prompt",
                param="max_tokens",
            )
        self.waiting.append(sequence)

    def plan(self) -> list[Work]:
        """Return the work of the next step; none when there is nothing to do."""
        self._drop_cancelled()
        budget = self._max_batch_tokens
        works = []
        for sequence in sorted(self.running, key=lambda s: s.pending):
            count = min(sequence.pending, max(budget, 0))
            if count:
                works.append(_work(sequence, count))
                budget -= works[-1].rows
        return works + self._admit(budget)

    def finish_step(self, works: Iterable[Work]) -> None:
        """Note what has been computed and offer the prompts' blocks for reuse."""
        for work in works:
            sequence = work.sequence
            before, sequence.computed = sequence.computed, sequence.computed + work.size
            for i in range(before // BLOCK, min(sequence.computed // BLOCK, len(sequence.names))):
                self._cache.publish(sequence.blocks[i], sequence.names[i])
            for follower in work.followers:
                whole, rest = divmod(sequence.computed, BLOCK)
                if rest:
                    self._cache.copy(sequence.blocks[whole], follower.blocks[whole], rest)
                follower.computed = sequence.computed

    def remove(self, sequence: Sequence) -> None:
        """Free a running sequence's place and memory."""
        self.running.remove(sequence)
        self._cache.give_back(sequence.blocks)
        sequence.ended = True

    def clear(self) -> list[Sequence]:
        """Remove everything; return the sequences that were waiting or running."""
        everything = [*self.running, *self.waiting]
        for sequence in self.running:
            self._cache.give_back(sequence.blocks)
        self.running.clear()
        self.waiting.clear()
        return everything

    def _drop_cancelled(self) -> None:
        for sequence in [s for s in self.running if s.cancelled]:
            self.remove(sequence)
        if any(s.cancelled for s in self.waiting):
            self.waiting = deque(s for s in self.waiting if not s.cancelled)

    def _admit(self, budget: int) -> list[Work]:
        works: list[Work] = []
        leaders: dict[tuple[str, tuple[int, ...]], Work] = {}
        under_way = {name for s in self.running for name in s.names[s.computed // BLOCK :]}
        passed: list[Sequence] = []
        while self.waiting and budget > 0 and len(self.running) < self._max_running and len(passed) < _LOOKAHEAD:
            sequence = self.waiting.popleft()
            key = (sequence.version, tuple(sequence.tokens))
            leader = leaders.get(key) if sequence.tree is None else None
            if leader is not None:
                placed = self._follow(sequence, leader)
            else:
                shared = self._cache.match(sequence.names[: (len(sequence.request.prompt) - 1) // BLOCK])
                if (
                    len(shared) < len(sequence.names)
                    and sequence.names[len(shared)] in under_way
                    and _worth(sequence, shared)
                ):
                    passed.append(sequence)
                    continue
                placed = self._place(sequence, shared, len(shared) * BLOCK)
            if not placed:
                self.waiting.appendleft(sequence)
                break
            self.running.append(sequence)
            if leader is not None:
                continue
            work = _work(sequence, min(sequence.pending, budget))
            budget -= work.rows
            works.append(work)
            under_way.update(sequence.names[sequence.computed // BLOCK :])
            if sequence.tree is None and work.size == sequence.pending:
                leaders[key] = work
        self.waiting.extendleft(reversed(passed))
        return works

    def _place(self, sequence: Sequence, shared: list[int], tokens: int) -> bool:
        blocks = self._cache.take(shared, _blocks(sequence.needed) - len(shared))
        if blocks is None:
            return False
        sequence.place(blocks, tokens)
        return True

    def _follow(self, sequence: Sequence, leader: Work) -> bool:
        shared = leader.sequence.blocks[: len(sequence.tokens) // BLOCK]
        if not self._place(sequence, shared, len(sequence.tokens)):
            return False
        sequence.cached = len(sequence.request.prompt)
        leader.followers.append(sequence)
        return True


def _work(sequence: Sequence, count: int) -> Work:
    return Work(sequence, count, sequence.tree is not None and count == sequence.pending, [])


def _worth(sequence: Sequence, shared: list[int]) -> bool:
    """Whether waiting for the next block spares computing it: the last token is always computed."""
    return (len(shared) + 1) * BLOCK <= len(sequence.request.prompt) - 1


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK)
