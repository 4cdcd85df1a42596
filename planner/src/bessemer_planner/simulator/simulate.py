"""`simulate`: a workload on a cluster, request by request."""

import numpy as np

from bessemer_planner.simulator.lowering import PICOSECONDS, Lowered, lower
from bessemer_planner.simulator.native import load
from bessemer_planner.simulator.outcome import OutcomeArrays
from bessemer_planner.simulator.stepwise import run_stepwise
from bessemer_planner.simulator.types import Cluster, Floats, Ints, Requests, ScalePoint, SimulationResult


def simulate(requests: Requests, cluster: Cluster, *, seed: int = 0) -> SimulationResult:
    """Serve every request and say when. The same arguments give the same bytes on every machine.

    Raises `PlannerError` for a workload or cluster that makes no sense. A request that does not fit into the memory
    of its pool is not an error: it is marked as rejected.
    """
    lowered = lower(requests, cluster, seed)
    run = (load() or run_stepwise) if len(requests) else run_stepwise
    return _result(lowered, run(lowered))


def _seconds(time: Ints) -> Floats:
    return np.where(time >= 0, time / PICOSECONDS, np.nan)


def _result(lowered: Lowered, outcome: OutcomeArrays) -> SimulationResult:
    output = lowered.output
    done = outcome.finish >= 0
    sent, finish = _seconds(outcome.sent), _seconds(outcome.finish)
    after_first = np.where(done & (output > 1), (outcome.finish - outcome.first) / PICOSECONDS, np.nan)
    scaling = np.array(outcome.scaling, np.int64).reshape(-1, 5).T
    return SimulationResult(
        sent_s=sent,
        ttft_s=np.where(done, (outcome.first - outcome.sent) / PICOSECONDS, np.nan),
        finish_s=finish,
        tpot_s=after_first / np.maximum(output - 1, 1),
        replica=outcome.replica,
        preempted=outcome.preempted,
        reused_tokens=outcome.reused,
        retries=outcome.retries,
        escalated=outcome.escalated.astype(np.bool_),
        rejected=outcome.rejected.astype(np.bool_),
        busy_s=outcome.busy / PICOSECONDS,
        powered_s=outcome.powered / PICOSECONDS,
        steps=outcome.steps,
        pool_of_replica=np.repeat(np.arange(len(lowered.pools)), [row.slots for row in lowered.pools]),
        scaling=ScalePoint(scaling[0] / PICOSECONDS, *scaling[1:]),
        end_s=outcome.end / PICOSECONDS,
    )
