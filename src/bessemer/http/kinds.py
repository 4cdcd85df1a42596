"""The kinds of jobs that an installation runs: a line each."""

from typing import Any, Final

from bessemer.flywheel.batches import BATCHES
from bessemer.flywheel.jobs import CASCADE, EVALUATION
from bessemer.flywheel.ladders import LADDER
from bessemer.flywheel.plans import PLAN
from bessemer.http.services import ApiServices
from bessemer.jobs.kinds import JobKind
from bessemer.tuning.jobs import FINE_TUNING

Kinds = tuple[JobKind[ApiServices, Any, Any], ...]
KINDS: Final[Kinds] = (
    FINE_TUNING,
    EVALUATION,
    CASCADE,
    LADDER,
    PLAN,
    BATCHES,
)
