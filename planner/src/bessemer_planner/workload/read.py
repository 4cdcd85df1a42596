"""From a TOML file or a JSON value to a checked Workload: one error, naming the field and the remedy.

Decides what makes sense inside a workload; whether hardware can serve it is the fleet's question.
"""

import difflib
import re
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from bessemer_planner.errors import InputError
from bessemer_planner.types import Owner
from bessemer_planner.workload.types import Lengths, Workload

_AT = re.compile(r" - at `(?:key in )?\$(?P<path>[^`]*)`$")
_QUOTED = re.compile(r"field `(?P<field>[^`]*)`")
_ROUNDING = 1e-6
_LONGEST_TTFT_S = 120.0
_LONGEST_TPOT_S = 5.0
"""Nobody reads an answer that slow; 200 ms and 20 ms, written as numbers of milliseconds, are above them."""
_DEAREST_KWH = 2.0
"""USD: four times what the dearest industrial grid asks."""
_WIDEST_P95 = 3.86
"""exp(1.645^2 / 2): no log-normal distribution has a 95th percentile further above its mean."""


def read_workload(path: Path) -> Workload:
    """Read a workload file. Raises InputError."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Cannot read the workload {str(path)!r}: {reason}.", param="file") from None
    return parse_workload(text)


def parse_workload(text: str) -> Workload:
    """Read a workload from TOML text. Raises InputError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The workload is not valid TOML: {error}.", param="file") from None
    return convert_workload(values)


def convert_workload(values: Mapping[str, Any]) -> Workload:
    """Turn plain values into a checked Workload. Raises InputError whose `param` is the dotted field."""
    try:
        workload = msgspec.convert(values, Workload)
    except msgspec.ValidationError as error:
        raise _named(error) from None
    check_workload(workload)
    return workload


def check_workload(workload: Workload) -> None:
    """Check what the types cannot say. Raises InputError."""
    traffic = workload.traffic
    if len(traffic.hours) != 24 or sum(traffic.hours) <= 0:
        raise _wrong("traffic.hours", f"needs 24 loads, not all zero; got {len(traffic.hours)}", "write one per hour")
    if traffic.months and (len(traffic.months) != 12 or sum(traffic.months) <= 0):
        raise _wrong(
            "traffic.months", f"needs 12 loads, not all zero; got {len(traffic.months)}", "write 12 or leave it out"
        )
    _check_lengths("traffic.prompt_tokens", traffic.prompt_tokens)
    _check_lengths("traffic.output_tokens", traffic.output_tokens)
    for index, use in enumerate(workload.models):
        for field in ("prompt_tokens", "output_tokens"):
            if (lengths := getattr(use, field)) is not None:
                _check_lengths(f"models.{index}.{field}", lengths)
    _check_models(workload)
    if not workload.sovereignty.ownership:
        raise _wrong("sovereignty.ownership", "allows nothing", "name cloud, ai_factory or own, or leave it out")
    _check_units(workload)
    if workload.fleet.instances and Owner.CLOUD not in workload.sovereignty.ownership:
        raise _wrong(
            "fleet.instances",
            "names machines to rent, which sovereignty.ownership does not allow",
            'add "cloud" there, or leave it out and name fleet.accelerators',
        )
    if not workload.fleet.engines:
        raise _wrong("fleet.engines", "allows nothing", "name vllm, sglang or trtllm, or leave it out")


def _check_units(workload: Workload) -> None:
    """Refuse values that were most likely written in another unit."""
    limits, price = workload.limits, workload.money.electricity_per_kwh
    for field, value, most in (
        ("limits.ttft_s", limits.ttft_s, _LONGEST_TTFT_S),
        ("limits.tpot_s", limits.tpot_s, _LONGEST_TPOT_S),
    ):
        if value >= most:
            raise _wrong(
                field,
                f"is {value:g} seconds, which looks like milliseconds",
                f"write {value / 1e3:g}, or less than {most:g}",
            )
    if price is not None and price >= _DEAREST_KWH:
        raise _wrong(
            "money.electricity_per_kwh",
            f"is {price:g} USD per kWh, dearer than anywhere",
            f"write USD, {price / 100:g} if it is cents, {price / 1000:g} if it is per MWh",
        )


def _check_lengths(field: str, lengths: Lengths) -> None:
    if lengths.p95 is not None and not lengths.mean <= lengths.p95 <= _WIDEST_P95 * lengths.mean:
        raise _wrong(
            f"{field}.p95",
            f"is {lengths.p95:g} with a mean of {lengths.mean:g}; a log-normal has it between the mean and "
            f"{_WIDEST_P95} times the mean",
            "correct one of them, or give quantiles",
        )
    values = lengths.quantiles
    if values and (len(values) < 2 or list(values) != sorted(values) or values[-1] <= 0):
        raise _wrong(f"{field}.quantiles", "must be two or more values that never fall", "sort them")
    if values and not values[0] * (1 - _ROUNDING) <= lengths.mean <= values[-1] * (1 + _ROUNDING):
        raise _wrong(
            f"{field}.mean",
            f"is {lengths.mean:g}, outside the quantiles, {values[0]:g} to {values[-1]:g}",
            "give the mean of what the quantiles were measured on",
        )


def _check_models(workload: Workload) -> None:
    names = [use.name for use in workload.models]
    if not names:
        raise _wrong("models", "is empty", 'add [[models]] with name = "llama-3.1-8b", for example')
    if len(set(names)) < len(names):
        raise _wrong("models", "names a model twice", "add up their shares in one entry")
    if (cascade := workload.cascade) is not None:
        for role, name in (("small", cascade.small), ("large", cascade.large)):
            if name not in names:
                raise _wrong(f"cascade.{role}", f"is {name!r}, which [[models]] does not list", "add it there")
            if workload.models[names.index(name)].share is not None:
                raise _wrong(
                    f"models.{names.index(name)}.share", "contradicts the cascade", "leave it out: cascade.escalated"
                )
        if cascade.small == cascade.large:
            raise _wrong("cascade.large", "is the small model again", "name two models")
        names = [name for name in names if name not in {cascade.small, cascade.large}]
        if names:
            raise _wrong("models", f"has {names[0]!r} outside the cascade", "plan it in a file of its own")
    else:
        total = sum(1.0 if use.share is None else use.share for use in workload.models)
        if abs(total - 1.0) > 1e-6:
            raise _wrong("models", f"has shares that add up to {total:g}", "make them add up to 1, or add [cascade]")


def _wrong(field: str, problem: str, remedy: str) -> InputError:
    return InputError(f"{field} {problem}; {remedy}.", param=field)


def _named(error: msgspec.ValidationError) -> InputError:
    """Turn msgspec's message into one that names the dotted field and the remedy."""
    text = str(error)
    found = _AT.search(text)
    path = re.sub(r"\[(\d+)\]", r".\1", found["path"] if found else "").strip(".").replace("[...]", "")
    problem = text[: found.start()] if found else text
    quoted = _QUOTED.search(problem)
    if quoted is None:
        what = problem[:1].lower() + problem[1:].replace("`", "")
        remedy = f"; give one of: {', '.join(_members(path))}" if "enum value" in problem else "; correct it"
        return InputError(f"{path or 'the workload'}: {what}{remedy}.", param=path or None)
    field = ".".join(part for part in (path, quoted["field"]) if part)
    if "missing required" in problem:
        return InputError(f"{field} is missing; add it.", param=field)
    known = _fields(path)
    near = difflib.get_close_matches(quoted["field"], known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}."
    return InputError(f"{field} is not a field; {hint}", param=field)


def _fields(path: str) -> list[str]:
    """Return the field names of the struct at a dotted path of the schema."""
    return [field.name for field in msgspec.structs.fields(_kind_at(path))]


def _members(path: str) -> list[str]:
    """Return the values of the enumeration at a dotted path of the schema."""
    return [member.value for member in _kind_at(path)]


def _kind_at(path: str) -> Any:
    kind: Any = Workload
    for part in filter(None, path.split(".")):
        kind = kind if part.isdigit() else _inside(get_type_hints(kind)[part])
    return kind


def _inside(kind: Any) -> Any:
    """Return the type inside an optional or a tuple."""
    if get_origin(kind) in {Union, types.UnionType, tuple}:
        return next(_inside(one) for one in get_args(kind) if one not in {type(None), Ellipsis})
    return kind
