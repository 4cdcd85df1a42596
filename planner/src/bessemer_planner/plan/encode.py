"""A plan as JSON and back: every field by its name, units in the names, infinite and unknown as null."""

from typing import Any

import msgspec
import numpy as np

from bessemer_planner.errors import InputError
from bessemer_planner.plan.types import Plan


def plan_json(plan: Plan) -> bytes:
    """Return the plan as one JSON object; `schema` names its version."""
    return msgspec.json.encode(plan, enc_hook=_plain)


def read_plan(content: bytes | str) -> Plan:
    """Return the plan that `plan_json` wrote; other fields beside its own are left out. Raises InputError."""
    try:
        return msgspec.json.decode(content, type=Plan)
    except msgspec.DecodeError as error:
        raise InputError(f"This is no plan of this release ({error}); plan the workload anew.", param="plan") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise NotImplementedError(f"{type(value)} has no JSON form")
