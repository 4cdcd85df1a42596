"""What a run leaves behind, in picoseconds: the shared result of the compiled and the step-by-step simulator."""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np

from bessemer_planner.simulator.types import Ints


class ScaleRow(NamedTuple):
    """One look of an autoscaler at its pool."""

    time: int
    pool: int
    active: int
    starting: int
    load: int


@dataclass
class OutcomeArrays:
    """Arrays per request, then per replica; -1 is a time that did not come."""

    sent: Ints
    first: Ints
    finish: Ints
    replica: Ints
    preempted: Ints
    reused: Ints
    retries: Ints
    escalated: Ints
    rejected: Ints
    busy: Ints
    powered: Ints
    steps: Ints
    end: int = 0
    scaling: list[ScaleRow] = field(default_factory=list)

    @classmethod
    def empty(cls, requests: int, replicas: int) -> Self:
        """Nothing has happened yet."""

        def never() -> Ints:
            return np.full(requests, -1, np.int64)

        def none(size: int = requests) -> Ints:
            return np.zeros(size, np.int64)

        return cls(
            sent=never(),
            first=never(),
            finish=never(),
            replica=never(),
            preempted=none(),
            reused=none(),
            retries=none(),
            escalated=none(),
            rejected=none(),
            busy=none(replicas),
            powered=none(replicas),
            steps=none(replicas),
        )
