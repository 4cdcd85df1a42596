"""The client calls what the table of endpoints lists: the same methods, paths and types, and nothing else."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import pytest

from bessemer.client import calls
from bessemer.client.operation import Operation, Streamed, Upload
from bessemer.core.types import JSON
from bessemer.core.wire import UploadForm
from bessemer.http.edge import NoQuery
from bessemer.http.routing import Endpoint
from bessemer.http.surface import TABLE

BY_HAND = {"POST /v1/plans", "POST /v1/plans/jobs"}
"""Endpoints whose body is another package's type, which the client takes as any struct or JSON."""


class Called(NamedTuple):
    """A call as the table would list it; paths hold `*` for each name."""

    method: str
    path: str
    body: tuple[Any, ...]
    query: tuple[Any, ...]
    answer: Any


def call(function: Callable[..., Any]) -> Any:
    """Call a function of the client with a stand-in for each parameter that it needs."""
    hints = get_type_hints(function)
    needed = [name for name, one in inspect.signature(function).parameters.items() if one.default is one.empty]
    stands = {Path: Path("*"), str: "*"}
    return function(**{name: stands.get(hints[name], {}) for name in needed})


def made(function: Callable[..., Operation[Any]], jobs: calls.Jobs[Any, Any, Any] | None = None) -> Called:
    """Return what a function of the client asks for."""
    hints = get_type_hints(function)
    operation = call(function)
    body, query = (given(hints.get(name), jobs) for name in ("body", "query"))
    if isinstance(operation.body, Upload):
        body = (UploadForm,)
    return Called(operation.method, operation.path.replace("%2A", "*"), body, query, operation.answer)


def given(hint: Any, jobs: calls.Jobs[Any, Any, Any] | None) -> tuple[Any, ...]:
    """Return the type of a body or query parameter; those of jobs are their kind's."""
    kinds = [one for one in get_args(hint) if one not in (JSON, type(None))]
    of_kind = {calls.B: jobs.request} if jobs is not None else {}
    return tuple(of_kind.get(one, one) for one in kinds)


FUNCTIONS = [
    one
    for name, one in inspect.getmembers(calls, inspect.isfunction)
    if one.__module__ == calls.__name__ and not name.startswith("_")
]
STREAMED = [one for one in FUNCTIONS if get_origin(get_type_hints(one)["return"]) is Streamed]


def all_calls() -> Iterator[Called]:
    yield from (made(function) for function in FUNCTIONS if function not in STREAMED)
    for jobs in calls.KINDS:
        # Not inspect.getmembers: of a struct it reads `__weakref__`, which Python 3.11.2 refuses.
        methods = [(name, getattr(jobs, name)) for name, one in vars(type(jobs)).items() if inspect.isfunction(one)]
        yield from (made(method, jobs) for name, method in methods if not name.startswith("_"))


def name_of(line: Endpoint) -> str:
    return f"{line.method} " + re.sub(r"{\w+}", "*", line.path)


CALLS = {f"{one.method} {one.path}": one for one in all_calls()}


def test_every_call_is_an_endpoint_and_every_endpoint_can_be_called() -> None:
    assert CALLS.keys() == set(map(name_of, TABLE))


@pytest.mark.parametrize("line", TABLE, ids=name_of)
def test_a_call_has_the_types_of_its_endpoint(line: Endpoint) -> None:
    name = name_of(line)
    one = CALLS[name]
    assert one.answer == (bytes if isinstance(line.answer, str) else line.answer)
    assert one.query == (() if line.query is NoQuery else (line.query,))
    if name not in BY_HAND:
        assert one.body == (() if line.body is None else (line.body,))


def test_every_endpoint_that_streams_has_a_call_that_does() -> None:
    streamed = {f"{one.operation.method} {one.operation.path}" for one in map(call, STREAMED)}
    assert streamed == {name_of(line) for line in TABLE if line.streams}
