"""One replica, step by step: the scheduling rules of the simulator in their plainest form.

Each engine step looks at every sequence, counts blocks anew, and knows nothing of what comes later. The rules are those
of vLLM v1 (vllm/v1/core/sched/scheduler.py): running sequences first and in order of admission, one token each for
decoding ones; a shortage of blocks preempts the last admitted, which starts over from the front of the queue; then
waiting ones while batch, token budget and memory last, admitted only when the whole prompt fits (its setting
`scheduler_reserve_full_isl`). Cached blocks are evicted least recently used first, deeper blocks before shallower ones.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence as Items

from bessemer_planner.simulator.lowering import PoolRow


class ScheduledSequence:
    """One request at one pool."""

    def __init__(self, index: int, pool: int, prompt: int, output: int, hashes: Items[int]) -> None:
        self.index, self.pool, self.prompt, self.output, self.hashes = index, pool, prompt, output, hashes
        self.generated = 0
        self.computed = 0
        """Tokens whose keys and values are in memory."""
        self.blocks = 0
        """Engine blocks that it holds, shared ones included."""
        self.shared = 0
        """Leading hash blocks that are entries of the prefix cache."""
        self.decoding = False
        """Every token but the newest is in memory: a step costs it one token."""

    @property
    def target(self) -> int:
        """Tokens to compute before the next one is known."""
        return self.prompt + self.generated

    def drop(self) -> None:
        """Forget the computed state: a preempted or failed sequence recomputes it."""
        self.computed = self.blocks = self.shared = 0
        self.decoding = False


class ReplicaScheduler:
    """Queue, batch and memory of one replica."""

    def __init__(self, row: PoolRow, decode: Items[int], hash_tokens: int) -> None:
        self._row, self._decode, self._hash_tokens = row, decode, hash_tokens
        self._entry_blocks = hash_tokens // row.block_tokens if row.prefix_cache else 0
        self.waiting: deque[ScheduledSequence] = deque()
        self.running: list[ScheduledSequence] = []
        self.scheduled: list[tuple[ScheduledSequence, int]] = []
        self.references: dict[int, int] = {}
        """Cached hash blocks in use: how many sequences share each."""
        self.idle_blocks: OrderedDict[int, None] = OrderedDict()
        """Cached hash blocks that no sequence uses, least recently used first."""
        self.preempted: list[int] = []
        """Requests that the last step preempted, one entry each time."""
        self.reused: list[tuple[int, int]] = []
        """(request, tokens) found in the cache by admissions of the last step."""

    @property
    def load(self) -> int:
        """Requests waiting and running."""
        return len(self.waiting) + len(self.running)

    # -- memory ---------------------------------------------------------------------------------------------------

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._row.block_tokens)

    def _available(self) -> int:
        """Blocks that are free or hold only idle cache entries."""
        private = sum(s.blocks - self._entry_blocks * s.shared for s in self.running)
        return self._row.blocks - private - self._entry_blocks * len(self.references)

    def _evict(self) -> None:
        while self.idle_blocks and self._available() < self._entry_blocks * len(self.idle_blocks):
            self.idle_blocks.popitem(last=False)

    def _hits(self, sequence: ScheduledSequence) -> int:
        """Leading hash blocks that are cached; at least one token is always computed."""
        if not self._row.prefix_cache or sequence.decoding:
            return 0
        most = min(len(sequence.hashes), (sequence.target - 1) // self._hash_tokens)
        for depth, key in enumerate(sequence.hashes[:most]):
            if key not in self.references and key not in self.idle_blocks:
                return depth
        return most

    def _share(self, key: int) -> None:
        self.idle_blocks.pop(key, None)
        self.references[key] = self.references.get(key, 0) + 1

    def _register(self, sequence: ScheduledSequence) -> None:
        """Full prompt blocks become cache entries; a copy of one that is there already is given back for it."""
        if self._row.prefix_cache:
            full = min(len(sequence.hashes), sequence.computed // self._hash_tokens)
            for key in sequence.hashes[sequence.shared : full]:
                self._share(key)
            sequence.shared = max(sequence.shared, full)

    def _release(self, sequence: ScheduledSequence) -> None:
        for key in reversed(sequence.hashes[: sequence.shared]):
            self.references[key] -= 1
            if not self.references[key]:
                del self.references[key]
                self.idle_blocks[key] = None
        sequence.drop()

    # -- a step ---------------------------------------------------------------------------------------------------

    def form(self) -> int:
        """Decide the next step and return how long it takes, in picoseconds; 0: nothing to do."""
        self.scheduled, self.preempted, self.reused = [], [], []
        budget = self._row.chunk
        position = 0
        while position < len(self.running):
            sequence = self.running[position]
            tokens = min(sequence.target - sequence.computed, budget)
            if self._make_room(sequence, tokens):
                self._schedule(sequence, tokens)
                budget -= tokens
            position += 1
        while self.waiting and not self.preempted and len(self.running) < self._row.max_batch and budget:
            tokens = self._admit(self.waiting[0], budget)
            if not tokens:
                break
            budget -= tokens
        return self._duration()

    def _make_room(self, sequence: ScheduledSequence, tokens: int) -> bool:
        """Preempt from the end until the tokens fit; False when the sequence itself had to go."""
        while self._blocks(sequence.computed + tokens) - sequence.blocks > self._available():
            victim = self.running.pop()
            self._release(victim)
            self.waiting.appendleft(victim)
            self.preempted.append(victim.index)
            if victim is sequence:
                return False
        return True

    def _schedule(self, sequence: ScheduledSequence, tokens: int) -> None:
        sequence.blocks = max(sequence.blocks, self._blocks(sequence.computed + tokens))
        self.scheduled.append((sequence, tokens))
        self._evict()

    def _admit(self, sequence: ScheduledSequence, budget: int) -> int:
        """Start the head of the queue if its whole prompt fits; return the tokens of its first chunk, else 0."""
        hits = self._hits(sequence)
        shared = sum(key in self.references for key in sequence.hashes[:hits])
        if self._blocks(sequence.target) - self._entry_blocks * shared > self._available():
            return 0
        self.waiting.popleft()
        self.running.append(sequence)
        for key in sequence.hashes[:hits]:
            self._share(key)
        if hits:
            sequence.computed = hits * self._hash_tokens
            self.reused.append((sequence.index, sequence.computed))
        sequence.shared = hits
        sequence.blocks = self._entry_blocks * hits
        tokens = min(sequence.target - sequence.computed, budget)
        self._schedule(sequence, tokens)
        return tokens

    def _duration(self) -> int:
        row = self._row
        batch = held = prefill = pairs = 0
        for sequence, tokens in self.scheduled:
            if sequence.decoding:
                batch += 1
                held += sequence.computed
            else:
                prefill += tokens
                pairs += tokens * sequence.computed + tokens * (tokens + 1) // 2
        if not self.scheduled:
            return 0
        time = self._decode[batch] + row.kv * held
        if prefill:
            time += row.prefill_step + row.prefill_token * prefill + row.pair_femto * pairs // 1000
        return time

    def finish_step(self) -> tuple[list[ScheduledSequence], list[ScheduledSequence]]:
        """End the step: return the sequences that got their first token and, in order, those that leave."""
        for sequence, tokens in self.scheduled:
            sequence.computed += tokens
            if not sequence.decoding:
                self._register(sequence)
        begun = []
        for sequence, _ in self.scheduled:
            if sequence.computed == sequence.target:
                sequence.generated += 1
                sequence.decoding = True
                if sequence.generated == 1:
                    begun.append(sequence)
        leaving = [s for s, _ in self.scheduled if s.generated == s.output or (s.decoding and self._hands_off)]
        for sequence in leaving:
            self.running.remove(sequence)
            self._release(sequence)
        return begun, leaving

    @property
    def _hands_off(self) -> bool:
        return self._row.handoff_pool >= 0

    def fail(self) -> list[ScheduledSequence]:
        """Lose everything; return the requests in running, then waiting order."""
        lost = [*self.running, *self.waiting]
        for sequence in lost:
            sequence.drop()
            sequence.generated = 0
        self.running, self.scheduled = [], []
        self.waiting.clear()
        self.references.clear()
        self.idle_blocks.clear()
        return lost
