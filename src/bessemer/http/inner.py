"""What the tables of methods, graders and kinds of jobs say of fields that a wire type leaves as plain JSON.

The document of the API describes them by the types of each line, so that a client made from it knows them, too.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from bessemer.core.types import JSON
from bessemer.core.wire import JobObject
from bessemer.evals import graders
from bessemer.http.kinds import Kinds
from bessemer.tuning import methods

RefOf = Callable[[Any], JSON]
"""From a type to the reference to its schema."""
_GRADER: Final = "Grader"
_METHOD: Final = "TuningMethod"
_SCHEMA: Final = "#/components/schemas/"


def types(kinds: Kinds) -> Iterator[Any]:
    """Iterate over the types of the tables' lines."""
    yield from methods.bodies().values()
    yield from (kind.spec for kind in graders.kinds())
    for kind in kinds:
        yield from (one for one in (kind.request, kind.result, kind.progress) if one is not None)


def describe(components: dict[str, Any], ref_of: RefOf, kinds: Kinds) -> dict[str, str]:
    """Put the lines' schemas in the place of plain JSON; return the components of each kind's jobs, by its path."""
    _graders(components, ref_of)
    _methods(components, ref_of)
    return {kind.path: _job(components, ref_of, kind) for kind in kinds if kind.shown is JobObject}


def _graders(components: dict[str, Any], ref_of: RefOf) -> None:
    refs = {kind.name: ref_of(kind.spec) for kind in graders.kinds()}
    for name, ref in refs.items():
        _component(components, ref)["properties"]["type"] = {"const": name}
    mapping = {name: ref["$ref"] for name, ref in refs.items()}
    one = {"oneOf": [*refs.values()], "discriminator": {"propertyName": "type", "mapping": mapping}}
    components[_GRADER] = {"title": _GRADER, "description": "A grader, by its type."} | one
    grader = {"$ref": _SCHEMA + _GRADER}
    for component in components.values():
        fields = component.get("properties", {})
        if "grader" in fields:
            fields["grader"] = _in_place_of_json(fields["grader"], grader)
        if "graders" in fields:  # OpenAI's three forms
            many = [{"type": "array", "items": grader}, {"type": "object", "additionalProperties": grader}]
            fields["graders"] = {"anyOf": [grader, *many]}


def _methods(components: dict[str, Any], ref_of: RefOf) -> None:
    bodies = {name: ref_of(body) for name, body in methods.bodies().items()}
    components[_METHOD] = {
        "title": _METHOD,
        "description": "A tuning method: its type, and under that name what it takes.",
        "oneOf": [
            {
                "type": "object",
                "properties": {"type": {"const": name}, name: body},
                "required": ["type", *([name] if _component(components, body).get("required") else [])],
            }
            for name, body in bodies.items()
        ],
    }
    asked = components["FineTuningJobRequest"]["properties"]
    for job in ("FineTuningJobRequest", "FineTuningJob"):
        fields = components[job]["properties"]
        fields["method"] = _in_place_of_json(fields["method"], {"$ref": _SCHEMA + _METHOD})
    supervised = _component(components, bodies[methods.DEFAULT])["properties"]["hyperparameters"]
    asked["hyperparameters"] = _in_place_of_json(asked["hyperparameters"], {"$ref": supervised["$ref"]})


def _job(components: dict[str, Any], ref_of: RefOf, kind: Any) -> str:
    """Add the component of a kind's jobs, and that of a page of them; return its name."""
    name = "".join(word.capitalize() for word in kind.name.split("_")) + "Job"
    fields: dict[str, Any] = {
        "kind": {"const": kind.name},
        "request": ref_of(kind.request),
        "result": {"anyOf": [ref_of(kind.result), {"type": "null"}]},
    }
    if kind.progress is not None:
        fields["progress"] = ref_of(kind.progress)
    components[name] = {"title": name, "allOf": [ref_of(JobObject), {"type": "object", "properties": fields}]}
    return name


def _in_place_of_json(schema: JSON, ref: JSON) -> JSON:
    """Return a field's schema with a reference where it says plain JSON."""
    if "anyOf" in schema:
        branches = [ref if branch.get("type") == "object" else branch for branch in schema["anyOf"]]
        return {**schema, "anyOf": branches}
    return ref


def _component(components: dict[str, Any], ref: JSON) -> dict[str, Any]:
    found: dict[str, Any] = components[ref["$ref"].removeprefix(_SCHEMA)]
    return found
