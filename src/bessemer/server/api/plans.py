"""Plans: make one from a workload, keep it, list, get.

A plan takes many seconds of pure computation, so a process of its own makes it: requests for models are not slowed, and
when the client leaves the process ends.
"""

import asyncio
import json
import sys
from pathlib import Path

import msgspec
from starlette.types import ASGIApp

from bessemer.core.errors import BessemerError, refusal
from bessemer.core.ids import new_id
from bessemer.core.lists import ListQuery
from bessemer.core.types import JSON
from bessemer.server.http import BytesResponse, Call, JSONResponse, while_connected
from bessemer.server.lists import page, page_limit
from bessemer.store import plans
from bessemer_planner.errors import PlannerError
from bessemer_planner.workload import Workload, check_workload

_TIMEOUT_S = 300.0
_ONE_AT_A_TIME = asyncio.Semaphore(1)
"""A plan keeps a core busy; the next one waits."""


async def create(call: Call) -> ASGIApp:
    """POST /v1/plans: a workload (the fields of a workload file, as JSON) to a plan; answers when it is made."""
    workload = await call.body(Workload)
    try:
        check_workload(workload)
    except PlannerError as error:
        raise refusal(error.message, param=error.param, code=error.code) from None
    plan = await while_connected(call.request.receive, _made(workload, call.services.settings.data))
    plan = {"id": new_id("plan"), "object": "plan", **plan}
    content = msgspec.json.encode(plan)
    await asyncio.to_thread(_keep, call, plan["id"], content.decode(), workload.name)
    return BytesResponse(content, "application/json")


def _keep(call: Call, plan_id: str, body: str, name: str) -> None:
    with call.database.transaction():
        plans.insert(call.database, plan_id, body)
        call.audit("plan.created", plan_id, {"workload": name})


async def _made(workload: Workload, data: Path) -> JSON:
    """Run the planner in a process of its own. Raises what the planner raised."""
    async with _ONE_AT_A_TIME:
        return await _planned(workload, data)


async def _planned(workload: Workload, data: Path) -> JSON:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bessemer_planner",
        "plan",
        "-",
        "--prices",
        str(data / "prices.csv"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            out, _ = await process.communicate(msgspec.json.encode(workload))
    except TimeoutError:
        raise BessemerError(f"Planning took longer than {_TIMEOUT_S:.0f} s; use `bessemer plan`.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer: JSON = json.loads(out)
    except ValueError:
        raise BessemerError(f"The planner ended with code {process.returncode} and no plan.") from None
    if (error := answer.get("error")) is not None:
        raise refusal(error["message"], param=error["param"], code=error["code"])
    return answer


async def list_plans(call: Call) -> ASGIApp:
    """GET /v1/plans: newest first, without their tables."""
    query = call.query(ListQuery)
    limit = page_limit(query.limit)
    bodies = await asyncio.to_thread(plans.find, call.database, limit=limit + 1, after=query.after)
    return JSONResponse(page(list(map(_row, bodies)), limit, lambda row: row, lambda row: str(row["id"])))


def _row(body: str) -> JSON:
    plan = json.loads(body)
    row = {key: plan[key] for key in ("id", "object", "made_at", "recommendation")}
    return row | {"name": plan["workload"]["name"], "usd_per_month": plan["fleet"]["usd_per_month"]}


async def get(call: Call) -> ASGIApp:
    """GET /v1/plans/{plan_id}."""
    body = await asyncio.to_thread(plans.get, call.database, call.path("plan_id"))
    return BytesResponse(body.encode(), "application/json")
