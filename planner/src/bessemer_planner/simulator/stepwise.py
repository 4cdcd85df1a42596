"""The simulator one engine step at a time: the readable statement of what `simulator.c` computes by jumping.

Slow (a step costs a look at every sequence), used where there is no C compiler and to verify the compiled one exactly.
Events at the same time happen in this order: ends of steps (by replica), failures, autoscaler decisions (by
pool), requests on their way and returning replicas (in order of scheduling), arrivals. A request that reaches a replica
in the instant in which a step begins waits for the next one.
"""

import heapq
from collections import deque
from enum import IntEnum

from bessemer_planner.simulator.lowering import Lowered, PoolRow
from bessemer_planner.simulator.outcome import OutcomeArrays, ScaleRow
from bessemer_planner.simulator.scheduler import ReplicaScheduler, ScheduledSequence

_MASK = 2**64 - 1
AFFINITY_SLOTS = 2**20
"""Slots of the prefix-aware router's table of last owners, direct-mapped."""
_NEVER = 2**63 - 1


class Status(IntEnum):
    """What a replica slot is doing."""

    OFF = 0
    STARTING = 1
    ACTIVE = 2
    DRAINING = 3
    FAILED = 4


class _Kind(IntEnum):
    READY = 0
    URGENT = 1
    STARTED = 2
    REPAIRED = 3


def mix(value: int) -> int:
    """Splitmix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class _Slot:
    """A replica slot: the replica and its state in the cluster."""

    def __init__(self, pool: int, replica: ReplicaScheduler) -> None:
        self.pool, self.replica = pool, replica
        self.status = Status.OFF
        self.began = 0
        self.ends = _NEVER
        self.powered_since = 0
        self.fetching = 0
        """Times it was started, so that a cancelled start is recognised."""


class _PoolState:
    """What a pool keeps beside its replicas."""

    def __init__(self, row: PoolRow, slots: list[int]) -> None:
        self.row, self.slots = row, slots
        self.turn = 0
        self.orphans: deque[ScheduledSequence] = deque()
        """Requests that no active replica can take."""
        self.backlog: list[tuple[int, int]] = []
        """(deadline, request) of batch requests that wait for a trough."""
        self.owners: dict[int, tuple[int, int]] = {}
        self.next_tick = row.scale_interval or _NEVER
        self.loads: list[int] = []
        self.wanted: deque[int] = deque()


class Stepwise:
    """A run; `run` returns what happened."""

    def __init__(self, lowered: Lowered) -> None:
        self._in = lowered
        count = len(lowered.arrival)
        self._out = OutcomeArrays.empty(count, lowered.replicas)
        self._hashes = lowered.block_hashes.tolist()
        self._offsets = lowered.block_offsets.tolist()
        self._slots: list[_Slot] = []
        self._pools: list[_PoolState] = []
        for index, row in enumerate(lowered.pools):
            decode = lowered.decode[row.decode_offset : row.decode_offset + row.max_batch + 1].tolist()
            numbers = list(range(row.first, row.first + row.slots))
            self._slots += [_Slot(index, ReplicaScheduler(row, decode, lowered.hash_tokens)) for _ in numbers]
            self._pools.append(_PoolState(row, numbers))
            for number in numbers[: row.initial]:
                self._slots[number].status = Status.ACTIVE
        self._state: list[ScheduledSequence | None] = [None] * count
        self._queued = [False] * count
        """Whether a batch request is in the backlog."""
        self._routed = [0] * count
        self._events: list[tuple[int, int, _Kind, int, int]] = []
        self._scheduled = self._sent = self._done = self._failures_seen = 0
        self._now = 0

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> OutcomeArrays:
        """Serve every request."""
        while self._done < len(self._in.arrival):
            choices = (
                min((slot.ends, 0, number) for number, slot in enumerate(self._slots)),
                (int(self._in.failures[self._failures_seen, 0]), 1, 0)
                if self._failures_seen < len(self._in.failures)
                else (_NEVER, 1, 0),
                min((pool.next_tick, 2, number) for number, pool in enumerate(self._pools)),
                (self._events[0][0], 3, 0) if self._events else (_NEVER, 3, 0),
                (self._next_arrival(), 4, 0),
            )
            time, rank, number = min(choices)
            if time == _NEVER:
                break
            self._now = time
            (self._end_step, self._next_failure, self._tick, self._event, self._arrive)[rank](number)
        for slot, number in zip(self._slots, range(len(self._slots)), strict=True):
            if slot.ends != _NEVER:
                self._out.busy[number] += self._now - slot.began
            if slot.status is not Status.OFF:
                self._out.powered[number] += self._now - slot.powered_since
        self._out.end = self._now
        return self._out

    def _next_arrival(self) -> int:
        full = self._in.concurrency and self._sent - self._done >= self._in.concurrency
        if full or self._sent == len(self._in.arrival):
            return _NEVER
        return max(int(self._in.arrival[self._sent]), self._now)

    def _arrive(self, _: int) -> None:
        request = self._sent
        self._sent += 1
        self._out.sent[request] = self._now
        self._approach(request, int(self._in.entry[request]), self._now)

    def _approach(self, request: int, pool: int, time: int) -> None:
        """The API server's work before a pool's router sees a request."""
        row = self._in.pools[pool]
        ready = time + row.request + row.prompt_token * int(self._in.prompt[request])
        sequence = self._sequence(request, pool)
        self._state[request] = sequence
        if ready == self._now:
            self._ready(sequence)
        else:
            self._push(ready, _Kind.READY, request, 0)

    def _sequence(self, request: int, pool: int) -> ScheduledSequence:
        hashes = self._hashes[self._offsets[request] : self._offsets[request + 1]]
        return ScheduledSequence(request, pool, int(self._in.prompt[request]), int(self._in.output[request]), hashes)

    def _push(self, time: int, kind: _Kind, what: int, more: int) -> None:
        heapq.heappush(self._events, (time, self._scheduled, kind, what, more))
        self._scheduled += 1

    def _event(self, _: int) -> None:
        _, _, kind, what, more = heapq.heappop(self._events)
        if kind is _Kind.READY:
            sequence = self._state[what]
            assert sequence is not None
            self._ready(sequence)
        elif kind is _Kind.URGENT:
            sequence = self._state[what]
            if self._queued[what] and sequence is not None and sequence.pool == more:
                self._queued[what] = False
                self._route(sequence)
        elif kind is _Kind.STARTED:
            if self._slots[what].status is Status.STARTING and self._slots[what].fetching == more:
                self._activate(what)
        else:
            self._activate(what)

    # -- where requests go ----------------------------------------------------------------------------------------

    def _ready(self, sequence: ScheduledSequence) -> None:
        pool = self._pools[sequence.pool]
        row = pool.row
        most = sequence.prompt if row.handoff_pool >= 0 else sequence.prompt + sequence.output - 1
        if -(-most // row.block_tokens) > row.blocks:
            self._out.rejected[sequence.index] = 1
            self._done += 1
            return
        deadline = int(self._in.deadline[sequence.index])
        if deadline < 0 or self._now >= deadline - row.slack:
            self._route(sequence)
            return
        heapq.heappush(pool.backlog, (deadline, sequence.index))
        self._queued[sequence.index] = True
        self._push(deadline - row.slack, _Kind.URGENT, sequence.index, sequence.pool)
        active = self._active(pool)
        if active:
            self._fill(self._least(active))

    def _active(self, pool: _PoolState) -> list[int]:
        return [number for number in pool.slots if self._slots[number].status is Status.ACTIVE]

    def _load(self, number: int) -> int:
        return self._slots[number].replica.load

    def _least(self, active: list[int]) -> int:
        return min(active, key=lambda number: (self._load(number), number))

    def _route(self, sequence: ScheduledSequence) -> None:
        pool = self._pools[sequence.pool]
        active = self._active(pool)
        if not active:
            pool.orphans.append(sequence)
            return
        number = (self._round_robin, self._lesser, self._of_two, self._by_prefix)[pool.row.router](
            pool, active, sequence
        )
        self._enqueue(number, sequence)
        self._wake(number)

    def _round_robin(self, pool: _PoolState, active: list[int], _: ScheduledSequence) -> int:
        pool.turn += 1
        return active[(pool.turn - 1) % len(active)]

    def _lesser(self, _pool: _PoolState, active: list[int], _: ScheduledSequence) -> int:
        return self._least(active)

    def _of_two(self, _: _PoolState, active: list[int], sequence: ScheduledSequence) -> int:
        self._routed[sequence.index] += 1
        draw = mix(
            self._in.seed + sequence.index * 0x9E3779B97F4A7C15 + self._routed[sequence.index] * 0xD1B54A32D192ED03
            & _MASK
        )
        if len(active) == 1:
            return active[0]
        first, second = (draw & 0xFFFFFFFF) % len(active), (draw >> 32) % (len(active) - 1)
        second += second >= first
        one, two = active[first], active[second]
        return one if self._load(one) <= self._load(two) else two

    def _by_prefix(self, pool: _PoolState, active: list[int], sequence: ScheduledSequence) -> int:
        """SGLang's cache-aware policy (sgl-router: thresholds 64 requests and 1.5 for imbalance, 0.3 for a match)."""
        matched, owner = 0, -1
        for key in sequence.hashes:
            known, last = pool.owners.get(mix(key & _MASK) % AFFINITY_SLOTS, (None, -1))
            if known != key:
                break
            matched, owner = matched + 1, last
        loads = [self._load(number) for number in active]
        uneven = max(loads) - min(loads) > 64 and 2 * max(loads) > 3 * min(loads)
        near = 10 * matched * self._in.hash_tokens > 3 * sequence.prompt
        chosen = owner if near and not uneven and owner in active else self._least(active)
        for key in sequence.hashes:
            pool.owners[mix(key & _MASK) % AFFINITY_SLOTS] = (key, chosen)
        return chosen

    def _enqueue(self, number: int, sequence: ScheduledSequence) -> None:
        self._slots[number].replica.waiting.append(sequence)

    def _fill(self, number: int) -> None:
        """Give a replica batch requests, soonest deadline first, while its load is low."""
        slot = self._slots[number]
        pool = self._pools[slot.pool]
        if slot.status is not Status.ACTIVE:
            return
        while pool.backlog and slot.replica.load < pool.row.fill:
            _, request = heapq.heappop(pool.backlog)
            sequence = self._state[request]
            if self._queued[request] and sequence is not None and sequence.pool == slot.pool:
                self._queued[request] = False
                self._enqueue(number, sequence)
        self._wake(number)

    # -- steps ----------------------------------------------------------------------------------------------------

    def _wake(self, number: int) -> None:
        """Begin a step on an idle replica that has work."""
        slot = self._slots[number]
        if slot.ends != _NEVER:
            return
        duration = slot.replica.form()
        for request in slot.replica.preempted:
            self._out.preempted[request] += 1
        for request, tokens in slot.replica.reused:
            self._out.reused[request] += tokens
        if duration:
            slot.began, slot.ends = self._now, self._now + duration

    def _end_step(self, number: int) -> None:
        slot = self._slots[number]
        self._out.busy[number] += slot.ends - slot.began
        self._out.steps[number] += 1
        # `ends` is kept until the requests have left, so that none of them starts the next step.
        begun, leaving = slot.replica.finish_step()
        for sequence in begun:
            self._out.first[sequence.index] = self._now
        for sequence in leaving:
            self._leave(number, sequence)
        slot.ends = _NEVER
        if leaving:
            self._fill(number)
            self._emptied(number)
        self._wake(number)

    def _leave(self, number: int, sequence: ScheduledSequence) -> None:
        request = sequence.index
        row = self._in.pools[sequence.pool]
        if sequence.generated < sequence.output:
            follower = self._sequence(request, row.handoff_pool)
            follower.generated, follower.computed, follower.decoding = 1, sequence.prompt, True
            self._state[request] = follower
            delay = row.handoff_latency + row.handoff_token * sequence.prompt
            self._push(self._now + delay, _Kind.READY, request, 0)
            return
        judge = sequence.pool if row.cascade_pool >= 0 or row.handoff_pool < 0 else row.handoff_pool
        judged = self._in.pools[judge]
        if judged.cascade_pool >= 0 and int(self._in.escalate[request]) >> judge & 1:
            self._out.escalated[request] = 1
            self._approach(request, judged.cascade_pool, self._now + judged.cascade_decision)
            return
        self._out.finish[request] = self._now
        self._out.replica[request] = number
        self._done += 1

    # -- replicas come and go -------------------------------------------------------------------------------------

    def _activate(self, number: int) -> None:
        slot = self._slots[number]
        slot.status = Status.ACTIVE
        pool = self._pools[slot.pool]
        orphans, pool.orphans = pool.orphans, deque()
        for sequence in orphans:
            self._route(sequence)
        self._fill(number)

    def _emptied(self, number: int) -> None:
        """A draining replica without requests is let go."""
        slot = self._slots[number]
        if slot.status is Status.DRAINING and not slot.replica.load:
            self._switch_off(number)

    def _switch_off(self, number: int) -> None:
        slot = self._slots[number]
        slot.status = Status.OFF
        self._out.powered[number] += self._now - slot.powered_since

    def _next_failure(self, _: int) -> None:
        _, number, repair = (int(value) for value in self._in.failures[self._failures_seen])
        self._failures_seen += 1
        self._fail(number, repair)

    def _fail(self, number: int, repair: int) -> None:
        slot = self._slots[number]
        if slot.status not in {Status.ACTIVE, Status.DRAINING}:
            return
        if slot.ends != _NEVER:
            self._out.busy[number] += self._now - slot.began
            slot.ends = _NEVER
        lost = slot.replica.fail()
        if slot.status is Status.ACTIVE:
            slot.status = Status.FAILED
            self._push(self._now + repair, _Kind.REPAIRED, number, 0)
        else:
            self._emptied(number)
        for sequence in lost:
            self._out.retries[sequence.index] += 1
            self._route(sequence)

    # -- autoscaler -----------------------------------------------------------------------------------------------

    def _tick(self, index: int) -> None:
        pool = self._pools[index]
        row = pool.row
        pool.next_tick += row.scale_interval
        count = {status: sum(self._slots[n].status is status for n in pool.slots) for status in Status}
        serving = (Status.ACTIVE, Status.DRAINING)
        load = len(pool.orphans) + sum(self._load(n) for n in pool.slots if self._slots[n].status in serving)
        self._out.scaling.append(ScaleRow(self._now, index, count[Status.ACTIVE], count[Status.STARTING], load))
        pool.loads.append(load)
        if len(pool.loads) <= row.scale_delay_ticks:
            return
        observed = pool.loads[-1 - row.scale_delay_ticks] * 1000
        current = count[Status.ACTIVE] + count[Status.STARTING]
        if observed * 1000 > current * row.target_milli * (1000 + row.tolerance_milli):
            pool.wanted.clear()
            self._grow(pool, min(row.maximum, -(-observed // row.target_milli)) - current)
            return
        # What remains must stay below the target with the tolerance to spare: N replicas become N - 1, not N / 2.
        safe = row.target_milli * (1000 - row.tolerance_milli)
        pool.wanted.append(min(max(row.minimum, -(-observed * 1000 // safe)), current))
        if len(pool.wanted) > row.window_ticks:
            pool.wanted.popleft()
        if current < row.minimum:
            self._grow(pool, row.minimum - current)
        elif len(pool.wanted) == row.window_ticks and max(pool.wanted) < current:
            self._shrink(pool, current - max(pool.wanted))

    def _grow(self, pool: _PoolState, more: int) -> None:
        """Replicas that are still draining come back first; others start cold. Lowest numbers first."""
        for number in pool.slots:
            slot = self._slots[number]
            if more > 0 and slot.status is Status.DRAINING:
                more -= 1
                self._activate(number)
        for number in pool.slots:
            slot = self._slots[number]
            if more > 0 and slot.status is Status.OFF:
                more -= 1
                slot.status, slot.powered_since = Status.STARTING, self._now
                slot.fetching += 1
                self._push(self._now + pool.row.cold_start, _Kind.STARTED, number, slot.fetching)

    def _shrink(self, pool: _PoolState, fewer: int) -> None:
        """Starting replicas are cancelled first, then active ones drain. Highest numbers first."""
        for number in reversed(pool.slots):
            if fewer > 0 and self._slots[number].status is Status.STARTING:
                fewer -= 1
                self._switch_off(number)
        for number in reversed(pool.slots):
            if fewer > 0 and self._slots[number].status is Status.ACTIVE:
                fewer -= 1
                self._slots[number].status = Status.DRAINING
                self._emptied(number)


def run_stepwise(lowered: Lowered) -> OutcomeArrays:
    """Serve a workload one engine step at a time."""
    if not len(lowered.arrival):
        return OutcomeArrays.empty(0, lowered.replicas)
    return Stepwise(lowered).run()
