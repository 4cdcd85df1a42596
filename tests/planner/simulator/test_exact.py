"""The compiled simulator equals the step-by-step one exactly, on random small workloads with every feature."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.planner.simulator.workloads import clusters, workloads

from bessemer.planner.simulator import Cluster
from bessemer.planner.simulator.lowering import lower
from bessemer.planner.simulator.native import load
from bessemer.planner.simulator.outcome import Outcome
from bessemer.planner.simulator.stepwise import run_stepwise

EXAMPLES = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def assert_equal(jumps: Outcome, steps: Outcome) -> None:
    """Compare every array and every decision."""
    for name, expected in vars(steps).items():
        got = getattr(jumps, name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(got, expected, err_msg=name)
        else:
            assert got == expected, name


@EXAMPLES
@given(data=st.data(), cluster=clusters(), seed=st.integers(0, 2**64))
def test_jumps_equal_steps(data: st.DataObject, cluster: Cluster, seed: int) -> None:
    run = load()
    if run is None:
        pytest.skip("no C compiler")
    requests = data.draw(workloads(len(cluster.entry)))
    lowered = lower(requests, cluster, seed)
    assert_equal(run(lowered), run_stepwise(lowered))
