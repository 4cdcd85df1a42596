"""Hardware plans as a kind of job: a workload in, a plan that is kept in the table of plans under the job's id.

A plan takes many seconds of pure computation, so a process of its own makes it: it slows nothing else that the worker
does, and at the client's wish it ends at once.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from bessemer.core.access import Action
from bessemer.core.errors import BessemerError, refusal
from bessemer.core.settings import Settings
from bessemer.core.types import Frozen
from bessemer.jobs.kinds import Accepted, Finished, Job, JobKind, JobRun, Lane
from bessemer.store import plans
from bessemer_planner.errors import PlannerError
from bessemer_planner.workload import Workload, check_workload

_TIMEOUT_S = 300.0
_LOOK_S = 0.25


class HasSettings(Protocol):
    """What plans need of an installation."""

    @property
    def settings(self) -> Settings:
        """Where its data folder is, which holds prices of its own."""
        ...


class PlanMade(Frozen, frozen=True):
    """What a plan says in short; the whole of it is at GET /v1/plans/{id}."""

    id: str
    name: str
    recommendation: str
    usd_per_month: float


class _PlanRun(JobRun[PlanMade]):
    def __init__(self, here: HasSettings, job: Job[Workload]) -> None:
        self._job = job
        self._prices = here.settings.data / "prices.csv"
        self._made = job.folder / "plan.json"

    def prepare(self) -> None:
        self._job.tell("started", f"Planning {self._job.request.name}")

    def step(self) -> bool:
        if not self._made.exists():
            partial = self._made.with_suffix(".partial")
            partial.write_bytes(_planned(self._job, self._prices))
            partial.replace(self._made)
        return True

    def finish(self) -> Finished[PlanMade]:
        job = self._job
        plan: dict[str, Any] = {"id": job.id, "object": "plan", **msgspec.json.decode(self._made.read_bytes())}
        made = PlanMade(
            id=job.id,
            name=plan["workload"]["name"],
            recommendation=plan["recommendation"],
            usd_per_month=plan["fleet"]["usd_per_month"],
        )

        def keep() -> None:
            plans.insert(job.database, job.id, msgspec.json.encode(plan).decode())
            job.tell("made", made.recommendation)

        return Finished(result=made, keep=keep)


def _planned(job: Job[Workload], prices: Path) -> bytes:
    """Run the planner in a process of its own and return its plan. Raises what the planner raised, StopRequested."""
    command = [sys.executable, "-m", "bessemer_planner", "plan", "-", "--prices", str(prices)]
    pipe = subprocess.PIPE
    ends = time.monotonic() + _TIMEOUT_S
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - ours
        try:
            out = _read(process, msgspec.json.encode(job.request), job, ends)
        finally:
            process.kill()
    try:
        error = msgspec.json.decode(out).get("error")
    except ValueError:
        raise BessemerError(f"The planner ended with code {process.returncode} and no plan.") from None
    if error is not None:
        raise refusal(error["message"], param=error["param"], code=error["code"])
    return out


def _read(process: "subprocess.Popen[bytes]", workload: bytes, job: Job[Workload], ends: float) -> bytes:
    sent: bytes | None = workload
    while True:
        try:
            return process.communicate(sent, timeout=_LOOK_S)[0]
        except subprocess.TimeoutExpired:
            sent = None  # it is on its way
            job.heed()
            if time.monotonic() > ends:
                raise BessemerError(f"Planning took longer than {_TIMEOUT_S:.0f} s; use `bessemer plan`.") from None


def _accept(_: HasSettings, job: Job[Workload]) -> Accepted[Workload]:
    try:
        check_workload(job.request)
    except PlannerError as error:
        raise refusal(error.message, param=error.param, code=error.code) from None
    return Accepted(request=job.request, detail={"workload": job.request.name})


PLAN: Final = JobKind(
    name="plan",
    noun="plan",
    path="/v1/plans/jobs",
    prefix="plan",
    created="plan.created",
    create=Action.PLAN_CREATE,
    lane=Lane("plans"),
    request=Workload,
    result=PlanMade,
    accept=_accept,
    run=_PlanRun,
)
