"""Plans: make one and wait for it, list, get, as JSON or as a page. Each is made by a job (`flywheel.plans`)."""

import asyncio
import json
from typing import Final

from starlette.types import ASGIApp

from bessemer.core.access import ResourceKind
from bessemer.core.errors import BessemerError, Conflict, InvalidRequest, refusal
from bessemer.core.lazy import Lazy
from bessemer.core.paging import ListQuery
from bessemer.core.types import JSON, JobStatus
from bessemer.flywheel.plans import PLAN
from bessemer.http.api import jobs
from bessemer.http.edge import BytesResponse, Call, PageResponse, while_connected, written
from bessemer.http.paging import page, page_limit
from bessemer.http.routing import Found, Item
from bessemer.jobs import lifecycle
from bessemer.store import job_rows, plans
from bessemer.store.job_rows import Control, JobRow
from bessemer_planner.errors import InputError

planner = Lazy("bessemer_planner.plan")
planner_report = Lazy("bessemer_planner.report")
_WAIT_S: Final = 300.0
_LOOK_S: Final = 0.2


def _find(call: Call, plan_id: str) -> Found:
    return Found(call.resource(ResourceKind.PLAN, plan_id), plans.get(call.database, plan_id))


MADE = Item("plan_id", _find)


async def create(call: Call) -> ASGIApp:
    """POST /v1/plans: a workload (the fields of a workload file, as JSON) to a plan; answers when it is made.

    Who does not wait for it cancels it: POST /v1/plans/jobs answers at once, and goes on.
    """
    row = (await jobs.create(call, PLAN)).row
    try:
        row = await while_connected(call.request.receive, _ended(call, row.id))
    finally:
        if row.status not in lifecycle.ENDED:
            await asyncio.to_thread(_cancel, call, row.id)
    body = await asyncio.to_thread(plans.get, call.database, row.id)
    return BytesResponse(body.encode(), "application/json")


async def _ended(call: Call, job_id: str) -> JobRow:
    """Wait for a plan's job. Raises what ended it otherwise."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + _WAIT_S
    while (row := await asyncio.to_thread(job_rows.get, call.database, job_id)).status not in lifecycle.ENDED:
        if loop.time() > ends:
            raise BessemerError(
                f"The plan was still {row.status.value} after {_WAIT_S:.0f} s and is cancelled: POST /v1/plans/jobs "
                "does not wait. Does the worker run?"
            )
        await asyncio.sleep(_LOOK_S)
    if row.status is JobStatus.CANCELLED:
        raise Conflict(f"The plan {job_id!r} was cancelled.")
    if row.error is not None:
        raise _told(row.error)
    return row


def _told(error: JSON) -> BessemerError:
    if error["code"] == "internal_error":
        return BessemerError(error["message"])
    return refusal(error["message"], param=error["param"], code=error["code"])


def _cancel(call: Call, job_id: str) -> None:
    try:
        lifecycle.control(call.database, job_id, Control.CANCEL, call.principal.key_id)
    except InvalidRequest:
        return  # it has ended meanwhile


async def list_plans(call: Call) -> ASGIApp:
    """GET /v1/plans: newest first, without their tables."""
    query = call.query(ListQuery)
    limit = page_limit(query.limit)
    bodies = await asyncio.to_thread(plans.find, call.database, limit=limit + 1, after=query.after)
    return await written(lambda: page(list(map(_row, bodies)), limit, lambda row: row, lambda row: str(row["id"])))


def _row(body: str) -> JSON:
    plan = json.loads(body)
    row = {key: plan[key] for key in ("id", "object", "made_at", "recommendation")}
    return row | {"name": plan["workload"]["name"], "usd_per_month": plan["fleet"]["usd_per_month"]}


async def get(call: Call) -> ASGIApp:
    """GET /v1/plans/{plan_id}."""
    return BytesResponse(call.found(str).encode(), "application/json")


async def report(call: Call) -> ASGIApp:
    """GET /v1/plans/{plan_id}/report: the plan as a page for people."""
    return PageResponse(await asyncio.to_thread(_page, call.found(str)))


def _page(body: str) -> str:
    try:
        return str(planner_report.render(planner.read_plan(body)))
    except InputError as error:  # kept by an earlier release
        raise Conflict(error.message, param="plan_id") from None
