"""A workload and a cluster as integer tables, which the compiled simulator and the step-by-step one both read.

Decides that time is a 64-bit count of picoseconds. A run of n equal-batch decode steps then costs exactly
n * (a + k * C) + k * b * n * (n - 1) / 2, the sum of its steps, so that jumping over steps changes no result, and every
implementation gives the same bytes. All randomness but the routers' is drawn here, with numpy's generator.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bessemer_planner.errors import PlannerError
from bessemer_planner.simulator.types import Cluster, Ints, Pool, Requests, Router
from bessemer_planner.types import Replica

PICOSECONDS = 10**12
LONGEST_S = 6e6
"""Longest workload: 2^63 picoseconds are 106 days, of which the drain after the last arrival takes a part."""
NEVER = -1


class PoolRow(NamedTuple):
    """One pool in integers; the order is that of `Pool` in simulator.c. Times in picoseconds."""

    first: int
    slots: int
    initial: int
    max_batch: int
    blocks: int
    chunk: int
    block_tokens: int
    kv: int
    prefill_token: int
    prefill_step: int
    pair_femto: int
    decode_offset: int
    request: int
    prompt_token: int
    router: int
    prefix_cache: int
    handoff_pool: int
    handoff_latency: int
    handoff_token: int
    cascade_pool: int
    cascade_decision: int
    scale_interval: int
    scale_delay_ticks: int
    target_milli: int
    minimum: int
    maximum: int
    tolerance_milli: int
    window_ticks: int
    cold_start: int
    fill: int
    slack: int


class Lowered(NamedTuple):
    """Everything that a run depends on, as integers."""

    pools: tuple[PoolRow, ...]
    decode: Ints
    """Decode tables of all pools after each other."""
    arrival: Ints
    prompt: Ints
    output: Ints
    entry: Ints
    """[N] pool at which the request enters."""
    deadline: Ints
    """[N] `NEVER` for interactive requests."""
    escalate: Ints
    """[N] bit p: an answer of pool p is not good enough."""
    block_offsets: Ints
    block_hashes: Ints
    hash_tokens: int
    failures: Ints
    """[T, 3] failures in order of time: (time, replica, repair)."""
    concurrency: int
    """0: no limit."""
    seed: int

    @property
    def replicas(self) -> int:
        """Replica slots of all pools."""
        return self.pools[-1].first + self.pools[-1].slots


ROUTERS = (Router.ROUND_ROBIN, Router.LEAST_LOADED, Router.POWER_OF_TWO, Router.PREFIX_AWARE)


def lower(requests: Requests, cluster: Cluster, seed: int) -> Lowered:
    """Check a workload and a cluster and turn them into integers. Raises `PlannerError` with field and remedy."""
    _check_requests(requests)
    if not cluster.pools:
        raise PlannerError("cluster.pools is empty: give at least one pool", param="cluster.pools")
    count = len(requests)
    kinds = np.zeros(count, np.int64) if requests.kind is None else requests.kind.astype(np.int64)
    if count and not (kinds.min() >= 0 and kinds.max() < len(cluster.entry)):
        raise PlannerError(
            f"requests.kind has class {kinds.max()}, cluster.entry has {len(cluster.entry)}: add the entry pool",
            param="requests.kind",
        )
    if not all(0 <= pool < len(cluster.pools) for pool in cluster.entry):
        raise PlannerError("cluster.entry names a pool that does not exist", param="cluster.entry")
    rows, tables = _pool_rows(cluster.pools, requests)
    prefix = requests.prefix
    return Lowered(
        pools=rows,
        decode=np.concatenate(tables),
        arrival=_picoseconds(requests.arrival_s),
        prompt=np.ascontiguousarray(requests.prompt_tokens, np.int64),
        output=np.ascontiguousarray(requests.output_tokens, np.int64),
        entry=np.asarray(cluster.entry, np.int64)[kinds],
        deadline=_deadlines(requests),
        escalate=_escalations(cluster.pools, count, seed),
        block_offsets=np.zeros(count + 1, np.int64) if prefix is None else _int64(prefix.offsets),
        block_hashes=np.zeros(0, np.int64) if prefix is None else _int64(prefix.hashes),
        hash_tokens=1 if prefix is None else prefix.tokens,
        failures=_failures(cluster.pools, rows, requests, seed),
        concurrency=requests.concurrency or 0,
        seed=seed & (2**64 - 1),
    )


def _int64(values: Ints) -> Ints:
    return np.ascontiguousarray(values, np.int64)


def _picoseconds(seconds: np.ndarray) -> Ints:
    return np.rint(np.asarray(seconds, np.float64) * PICOSECONDS).astype(np.int64)


def _time(seconds: float) -> int:
    return round(seconds * PICOSECONDS)


def _check_requests(requests: Requests) -> None:
    arrival = requests.arrival_s
    count = len(arrival)
    optional = {"kind": requests.kind, "deadline_s": requests.deadline_s}
    columns = {"prompt_tokens": requests.prompt_tokens, "output_tokens": requests.output_tokens, **optional}
    for name, column in columns.items():
        if column is not None and len(column) != count:
            raise PlannerError(f"requests.{name} has {len(column)} elements for {count} requests", param=name)
    if not count:
        return
    if not np.isfinite(arrival).all() or arrival[0] < 0 or (np.diff(arrival) < 0).any():
        raise PlannerError("requests.arrival_s must be finite, not negative, and sorted", param="arrival_s")
    if arrival[-1] > LONGEST_S:
        raise PlannerError(
            f"requests.arrival_s spans {arrival[-1]:.0f} s, at most {LONGEST_S:.0f}: simulate representative days",
            param="arrival_s",
        )
    if min(requests.prompt_tokens.min(), requests.output_tokens.min()) < 1:
        raise PlannerError("requests need at least one prompt token and one output token", param="prompt_tokens")
    if requests.concurrency is not None and requests.concurrency < 1:
        raise PlannerError("requests.concurrency must be at least 1", param="concurrency")
    prefix = requests.prefix
    if prefix is not None:
        sizes = np.diff(prefix.offsets)
        if len(sizes) != count or (sizes < 0).any() or prefix.offsets[-1] > len(prefix.hashes):
            raise PlannerError("requests.prefix.offsets must rise from 0 and have one more element than requests")
        if (sizes * prefix.tokens > requests.prompt_tokens).any():
            raise PlannerError("requests.prefix has more full blocks than a prompt has tokens", param="prefix")


def _deadlines(requests: Requests) -> Ints:
    if requests.deadline_s is None:
        return np.full(len(requests), NEVER, np.int64)
    finite = np.isfinite(requests.deadline_s)
    return np.where(finite, _picoseconds(np.where(finite, np.minimum(requests.deadline_s, LONGEST_S), 0)), NEVER)


def _escalations(pools: Sequence[Pool], count: int, seed: int) -> Ints:
    flags = np.zeros(count, np.int64)
    for index, pool in enumerate(pools):
        if pool.cascade is not None:
            draw = np.random.default_rng([abs(seed), 1, index]).random(count)
            flags |= (draw < pool.cascade.share).astype(np.int64) << index
    return flags


def _pool_rows(pools: Sequence[Pool], requests: Requests) -> tuple[tuple[PoolRow, ...], list[Ints]]:
    rows: list[PoolRow] = []
    tables: list[Ints] = []
    first = offset = 0
    for index, pool in enumerate(pools):
        _check_pool(index, pool, len(pools), requests)
        row = _pool_row(pool, first, offset, caches=pool.prefix_cache and requests.prefix is not None)
        rows.append(row)
        tables.append(np.maximum(_picoseconds(pool.replica.step.decode_s[: row.max_batch + 1]), 1))
        first += row.slots
        offset += len(tables[-1])
    return tuple(rows), tables


def _pool_row(pool: Pool, first: int, decode_offset: int, *, caches: bool) -> PoolRow:
    replica, step, scaler = pool.replica, pool.replica.step, pool.autoscaler
    handoff, cascade = pool.handoff, pool.cascade
    ticks = 0 if scaler is None else -int(-scaler.scrape_delay_s // scaler.interval_s)
    return PoolRow(
        first=first,
        slots=pool.replicas if scaler is None else max(pool.replicas, scaler.maximum),
        initial=pool.replicas,
        max_batch=replica.max_batch,
        blocks=replica.kv_tokens // replica.block_tokens,
        chunk=replica.chunk_tokens,
        block_tokens=replica.block_tokens,
        kv=_time(step.kv_token_s),
        prefill_token=_time(step.prefill_token_s),
        prefill_step=_time(step.prefill_step_s),
        pair_femto=_time(step.pair_s * 1000),
        decode_offset=decode_offset,
        request=_time(replica.request_s),
        prompt_token=_time(replica.prompt_token_s),
        router=ROUTERS.index(pool.router),
        prefix_cache=int(caches),
        handoff_pool=NEVER if handoff is None else handoff.pool,
        handoff_latency=0 if handoff is None else _time(handoff.latency_s),
        handoff_token=0 if handoff is None else _time(handoff.token_s),
        cascade_pool=NEVER if cascade is None else cascade.pool,
        cascade_decision=0 if cascade is None else _time(cascade.decision_s),
        scale_interval=0 if scaler is None else _time(scaler.interval_s),
        scale_delay_ticks=ticks,
        target_milli=0 if scaler is None else round(scaler.target_load * 1000),
        minimum=0 if scaler is None else scaler.minimum,
        maximum=0 if scaler is None else scaler.maximum,
        tolerance_milli=0 if scaler is None else round(scaler.tolerance * 1000),
        window_ticks=0 if scaler is None else max(1, -int(-scaler.stabilisation_s // scaler.interval_s)),
        cold_start=0 if scaler is None else _time(scaler.cold_start_s),
        fill=int(pool.batch_fill * replica.max_batch),
        slack=_time(min(pool.batch_slack_s, LONGEST_S)),
    )


def _check_pool(index: int, pool: Pool, pools: int, requests: Requests) -> None:
    where = f"cluster.pools[{index}]"
    _check_replica(where, pool.replica)
    if pool.replicas < 0:
        raise PlannerError(f"{where}.replicas is negative", param="replicas")
    onward = [part.pool for part in (pool.handoff, pool.cascade) if part is not None]
    if any(not index < target < pools for target in onward):
        raise PlannerError(f"{where}: handoff and cascade must name a later pool", param="pool")
    if pool.failures is not None and (pool.failures.mean_between_s <= 0 or pool.failures.repair_s < 0):
        raise PlannerError(f"{where}.failures needs a positive mean time between failures", param="failures")
    scaler = pool.autoscaler
    if scaler is not None and not (
        0 <= scaler.minimum <= scaler.maximum
        and scaler.maximum >= 1
        and scaler.interval_s > 0
        and round(scaler.target_load * 1000) >= 1
        and 0 <= scaler.tolerance < 1
    ):
        raise PlannerError(
            f"{where}.autoscaler needs 0 <= minimum <= maximum, maximum >= 1, a positive interval and target load",
            param="autoscaler",
        )
    if pool.prefix_cache and requests.prefix is not None and requests.prefix.tokens % pool.replica.block_tokens:
        raise PlannerError(
            f"requests.prefix.tokens {requests.prefix.tokens} is no multiple of {where}'s block of "
            f"{pool.replica.block_tokens} tokens",
            param="prefix",
        )


def _check_replica(where: str, replica: Replica) -> None:
    step = replica.step
    if len(step.decode_s) < replica.max_batch + 1:
        raise PlannerError(f"{where}: step.decode_s needs max_batch + 1 = {replica.max_batch + 1} elements")
    if not 1 <= replica.max_batch <= replica.chunk_tokens:
        raise PlannerError(f"{where}: chunk_tokens must be at least max_batch, as every sequence gets its token")
    if replica.block_tokens < 1 or replica.kv_tokens < replica.block_tokens:
        raise PlannerError(f"{where}: kv_tokens must hold at least one block of block_tokens")
    times = (step.kv_token_s, step.prefill_token_s, step.prefill_step_s, step.pair_s, replica.request_s)
    if min(*times, replica.prompt_token_s, float(step.decode_s.min())) < 0:
        raise PlannerError(f"{where}: step and overhead times must not be negative")


def _failures(pools: Sequence[Pool], rows: Sequence[PoolRow], requests: Requests, seed: int) -> Ints:
    """Failures until an hour after twice the workload's span."""
    horizon = 2 * float(requests.arrival_s[-1]) + 3600 if len(requests) else 0.0
    found: list[tuple[int, int, int]] = []
    for index, (pool, row) in enumerate(zip(pools, rows, strict=True)):
        if pool.failures is None:
            continue
        mean, repair = pool.failures.mean_between_s, pool.failures.repair_s
        draws = np.random.default_rng([abs(seed), 2, index])
        for replica in range(row.first, row.first + row.slots):
            count = int(1.5 * horizon / (mean + repair)) + 20
            times = np.cumsum(draws.exponential(mean, count)) + repair * np.arange(count)
            found += [(_time(time), replica, _time(repair)) for time in times[times < horizon].tolist()]
    return np.array(sorted(found), np.int64).reshape(-1, 3)
