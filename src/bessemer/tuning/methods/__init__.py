"""The table of tuning methods: one file here and one line each. `register` adds one from outside the package."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from bessemer.core.errors import InvalidRequest
from bessemer.core.invalid import invalid
from bessemer.core.types import JSON, as_json
from bessemer.feedback.rows import RowKind, register_kind
from bessemer.tuning.method import Method, MethodBody, check_hyperparameters
from bessemer.tuning.methods.exact import Exact
from bessemer.tuning.methods.grpo import Grpo
from bessemer.tuning.methods.supervised import Supervised
from bessemer.tuning.options import PREFIX, Options

_TABLE: list[Method] = [
    Supervised(),
    Exact(),
    Grpo(),
]
"""Of those of one type, the first that suits the answers is taken."""
DEFAULT = "supervised"
"""The type of a request that names none."""


def register(method: Method) -> None:
    """Add a method to the table, and its kind of rows to those that files may hold. Raises ValueError when its name is
    taken, or its type by methods of another body."""
    if any(method.name == other.name for other in _TABLE):
        raise ValueError(f"there is a tuning method {method.name!r} already")
    if any(method.wire == other.wire and method.body is not other.body for other in _TABLE):
        raise ValueError(f"methods of the type {method.wire!r} have another body")
    register_kind(method.rows)
    _TABLE.append(method)


def named(name: str) -> Method:
    """Return a method by its name. Raises InvalidRequest that names the known ones."""
    for method in _TABLE:
        if method.name == name:
            return method
    raise InvalidRequest(f"There is no tuning method {name!r}; there are {', '.join(one.name for one in _TABLE)}.")


def bodies() -> dict[str, type[MethodBody]]:
    """Return what stands under each type of the table in a request."""
    return {method.wire: method.body for method in _TABLE}


def check_options(options: Options, asked: "RequestedMethod") -> None:
    """Refuse what a job of this type would ignore. Raises InvalidRequest."""
    for name, owners in _owned(options):
        if all(method.wire != asked.type for method in owners):
            raise InvalidRequest(
                f"{PREFIX}{name} belongs to {owners[0].wire} jobs, and this one is {asked.type}; leave it out.",
                param="metadata",
            )
    if asked.grader is None and options.field_threshold == "auto":
        raise InvalidRequest(
            f"{PREFIX}field_threshold auto needs reinforcement, whose grader chooses it; give a number.",
            param="metadata",
        )
    if options.mention_group is not None and not options.mention_replacement:
        raise InvalidRequest(
            f"{PREFIX}mention_group does nothing without {PREFIX}mention_replacement; give both or none.",
            param="metadata",
        )


def check_suited(options: Options, method: Method) -> None:
    """Refuse what a job would ignore because of the answers that it learns. Raises InvalidRequest."""
    for name, owners in _owned(options):
        if method not in owners:
            raise InvalidRequest(
                f"{PREFIX}{name} needs {owners[0].needs}, and this job has none; leave it out.",
                param="metadata",
            )


def _owned(options: Options) -> list[tuple[str, list[Method]]]:
    """Return the options that were given and that not all methods have, each with those that do."""
    plain = Options()
    given = [name for name in options.__struct_fields__ if getattr(options, name) != getattr(plain, name)]
    owners = {name: [method for method in _TABLE if name in method.options] for name in given}
    return [(name, methods) for name, methods in owners.items() if methods]


class RequestedMethod(NamedTuple):
    """What a request names in `method`, read and in range."""

    type: str
    body: MethodBody
    methods: tuple[Method, ...]
    """Those of the type; which of them runs follows from the answers."""

    @property
    def rows(self) -> RowKind:
        """The kind of rows that its files hold."""
        return self.methods[0].rows

    @property
    def grader(self) -> JSON | None:
        """The grader, as JSON; None where nothing is graded."""
        return self.methods[0].grader(self.body)

    def stored(self) -> JSON:
        """Return it as a request that names everything."""
        return {"type": self.type, self.type: as_json(self.body)}

    def choose(self, choices: Sequence[str]) -> Method:
        """Return the method that learns such answers."""
        return next(method for method in self.methods if method.suits(choices))


def read_method(given: JSON | None, deprecated: JSON | None = None) -> RequestedMethod:
    """Read `method` of a request, or its deprecated `hyperparameters`. Raises InvalidRequest that names the field."""
    if given is None:
        given = {"type": DEFAULT, DEFAULT: {} if deprecated is None else {"hyperparameters": deprecated}}
        where = "" if deprecated is None else "hyperparameters"
    elif deprecated is not None:
        raise InvalidRequest(
            "'hyperparameters' is deprecated and cannot join 'method'; write them under the method.",
            param="hyperparameters",
        )
    else:
        where = "method"
    type_ = given.get("type")
    offered = list(dict.fromkeys(method.wire for method in _TABLE))
    if type_ is None:
        raise InvalidRequest(
            "Missing required parameter: 'method.type'.", param="method.type", code="missing_required_parameter"
        )
    if type_ not in offered:
        raise InvalidRequest(
            f"The method {str(type_)[:64]!r} is not offered; use {' or '.join(offered)}.", param="method.type"
        )
    _refuse_others(given, type_, offered)
    methods = tuple(method for method in _TABLE if method.wire == type_)
    body = _body(methods[0], given.get(type_), where)
    for method in methods:
        check_hyperparameters(body.hyperparameters, method.ranges, f"method.{type_}.hyperparameters")
        method.check(body, f"method.{type_}")
    return RequestedMethod(type_, body, methods)


def _refuse_others(given: JSON, type_: str, offered: Sequence[str]) -> None:
    for name, value in given.items():
        if name in ("type", type_) or value is None:
            continue
        param = f"method.{name}"
        if name in offered or name == "dpo":
            raise InvalidRequest(f"'{param}' does not belong to type {type_!r}.", param=param)
        raise InvalidRequest(f"Unknown parameter: {param!r}. Remove it.", param=param, code="unknown_parameter")


def _body(method: Method, given: Any, where: str) -> MethodBody:
    """Return the typed body. `where`: `method`, or what the client wrote instead."""
    place = f"method.{method.wire}" if where == "method" else ""
    try:
        return msgspec.convert({} if given is None else given, method.body)
    except msgspec.ValidationError as error:
        if given is None:
            raise InvalidRequest(
                f"Missing required parameter: {place!r}.", param=place, code="missing_required_parameter"
            ) from None
        raise invalid(error, place) from None
