"""Plans: make one from a workload, keep it, list, get.

A plan takes many seconds of pure computation, so a process of its own makes it: requests for models are not slowed, and
when the client leaves the process ends. Plans are files in the data folder, named by their id.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import ASGIApp

from bessemer.core.errors import BessemerError, ConfigError, Infeasible, InvalidRequest, NotFound
from bessemer.core.ids import new_id
from bessemer.core.openai import JSON
from bessemer.core.types import DEFAULT_PROJECT
from bessemer.planner.workload import Workload, check_workload
from bessemer.server.http import BytesResponse, Call, JSONResponse, decoder, while_connected
from bessemer.server.lists import ListQuery, envelope, page_limit

_WORKLOAD = decoder(Workload)
_TIMEOUT_S = 300.0
_ONE_AT_A_TIME = asyncio.Semaphore(1)
"""A plan keeps a core busy; the next one waits."""
_REFUSALS: dict[str, type[InvalidRequest]] = {"infeasible": Infeasible, "invalid_configuration": ConfigError}


async def create(call: Call) -> ASGIApp:
    """POST /v1/plans: a workload (the fields of a workload file, as JSON) to a plan; answers when it is made."""
    workload = await call.body(_WORKLOAD)
    check_workload(workload)
    plan = await while_connected(call.request.receive, _made(workload, call.services.settings.data))
    plan = {"id": new_id("plan"), "object": "plan", **plan}
    content = msgspec.json.encode(plan)
    await asyncio.to_thread(_keep, _folder(call), plan["id"], content)
    await asyncio.to_thread(call.audit, "plan.created", plan["id"], {"workload": workload.name})
    return BytesResponse(content, "application/json")


async def _made(workload: Workload, data: Path) -> JSON:
    """Run the planner in a process of its own. Raises what the planner raised."""
    async with _ONE_AT_A_TIME:
        return await _planned(workload, data)


async def _planned(workload: Workload, data: Path) -> JSON:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bessemer.planner",
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
        kind = _REFUSALS.get(error["code"], InvalidRequest)
        raise kind(error["message"], param=error["param"])
    return answer


def _folder(call: Call) -> Path:
    folder, project = call.services.settings.data / "plans", call.principal.project_id
    return folder if project == DEFAULT_PROJECT else folder / project


def _keep(folder: Path, plan_id: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{plan_id}"
    new.write_bytes(content)
    new.rename(folder / f"{plan_id}.json")


async def list_plans(call: Call) -> ASGIApp:
    """GET /v1/plans: newest first, without their tables."""
    query = call.query(ListQuery)
    limit = page_limit(query.limit)
    rows, more = await asyncio.to_thread(_listed, _folder(call), limit, query.after)
    return JSONResponse(envelope(rows, has_more=more, ids=[row["id"] for row in rows]))


def _listed(folder: Path, limit: int, after: str | None) -> tuple[list[JSON], bool]:
    """Return plans, newest first: ids sort by time."""
    names = sorted((path.stem for path in folder.glob("plan-*.json")), reverse=True)
    if after is not None:
        names = [name for name in names if name < after]
    rows = []
    for name in names[:limit]:
        plan: dict[str, Any] = json.loads((folder / f"{name}.json").read_bytes())
        row = {key: plan[key] for key in ("id", "object", "made_at", "recommendation")}
        rows.append(row | {"name": plan["workload"]["name"], "usd_per_month": plan["fleet"]["usd_per_month"]})
    return rows, len(names) > limit


async def get(call: Call) -> ASGIApp:
    """GET /v1/plans/{plan_id}."""
    plan_id = call.path("plan_id")
    path = _folder(call) / f"{plan_id}.json"
    known = plan_id.startswith("plan-") and plan_id.removeprefix("plan-").isalnum()
    if not known or not await asyncio.to_thread(path.is_file):
        raise NotFound(f"There is no plan {plan_id!r}.", param="plan_id")
    return BytesResponse(await asyncio.to_thread(path.read_bytes), "application/json")
