"""The OpenAPI 3.1 document of the HTTP surface, made from the table of endpoints and the types it names."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, get_origin

import msgspec
from starlette.types import ASGIApp

from bessemer import __version__
from bessemer.core.access import project
from bessemer.core.openai import Wire
from bessemer.core.types import DEFAULT_PROJECT, JSON
from bessemer.core.wire import JobObject, UploadForm
from bessemer.http import inner
from bessemer.http.edge import Call, JSONResponse
from bessemer.http.kinds import Kinds
from bessemer.http.routing import Endpoint
from bessemer.identity.policy import Policy, roles_that_may

_PARAMETER: Final = re.compile(r"{(\w+)}")
_OWN_PATH: Final = re.compile(r"^(?:GET|POST|PUT|DELETE)(?: and GET)? /[\w/{}]+(?: \(multipart[^)]*\))?[:.,]?\s*")
_SCHEMAS: Final = "#/components/schemas/{name}"


class Problem(Wire, omit_defaults=False):
    """What went wrong, as OpenAI says it."""

    message: str
    type: str
    param: str | None
    """The field that is to blame."""
    code: str | None


class ErrorBody(Wire, omit_defaults=False):
    """Body of every answer above 399."""

    error: Problem


def document(table: Sequence[Endpoint], kinds: Kinds, policy: Policy) -> JSON:
    """Return the OpenAPI document of a table of endpoints; `x-roles` is what the policy says in the default project.

    `kinds`: of the jobs whose endpoints are in the table.
    """
    named = [one for line in table for one in (line.body, line.answer, line.query) if _has_schema(one)]
    named += [*inner.types(kinds), ErrorBody]
    schemas, components = msgspec.json.schema_components(named, ref_template=_SCHEMAS)
    schema_of = {_key(one): schema for one, schema in zip(named, schemas, strict=True)}
    jobs = inner.describe(components, lambda one: schema_of[_key(one)], kinds)
    queries = {line.query.__name__ for line in table}
    paths: dict[str, dict[str, Any]] = {}
    for line in table:
        paths.setdefault(line.path, {})[line.method.lower()] = _operation(line, policy, schema_of, components)
    _name_jobs(paths, jobs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Bessemer",
            "version": __version__,
            "summary": "OpenAI's API and the control of an AI factory.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {name: schema for name, schema in sorted(components.items()) if name not in queries},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _name_jobs(paths: dict[str, dict[str, Any]], jobs: dict[str, str]) -> None:
    """Let the answers of each kind's endpoints be jobs of that kind, one or a page of them."""
    any_job = _SCHEMAS.format(name=JobObject.__name__)
    for path, name in jobs.items():
        one = {"$ref": _SCHEMAS.format(name=name)}
        for below in ("", "/{job_id}", "/{job_id}/cancel", "/{job_id}/pause", "/{job_id}/resume"):
            for method, operation in paths[path + below].items():
                content = operation["responses"]["200"]["content"]["application/json"]
                if content["schema"].get("$ref") == any_job:
                    content["schema"] = one
                elif method == "get":
                    content["schema"] = {
                        "allOf": [content["schema"], {"properties": {"data": {"type": "array", "items": one}}}]
                    }


def _operation(line: Endpoint, policy: Policy, schema_of: dict[str, JSON], components: dict[str, Any]) -> JSON:
    operation: dict[str, Any] = {
        "operationId": "_".join([line.method.lower(), *re.findall(r"\w+", line.path)]),
        "summary": _summary(line),
        "tags": [_tag(line.path)],
    }
    if line.action is not None:
        operation["x-action"] = line.action.value
        operation["x-roles"] = [role.value for role in roles_that_may(policy, line.action, project(DEFAULT_PROJECT))]
    else:
        operation["security"] = []
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(line.path)
    ]
    if parameters := parameters + _query(line, schema_of, components):
        operation["parameters"] = parameters
    if line.body is not None:
        media = "multipart/form-data" if line.body is UploadForm else "application/json"
        required = any(field.required for field in msgspec.structs.fields(line.body))
        content = {media: {"schema": schema_of[_key(line.body)]}}
        operation["requestBody"] = {"required": required, "content": content}
    operation["responses"] = {
        "200": {"description": HTTPStatus.OK.phrase, "content": _content(line, schema_of)},
        "default": {
            "description": "An error; it names the field and the remedy.",
            "content": {"application/json": {"schema": schema_of[_key(ErrorBody)]}},
        },
    }
    return operation


def _content(line: Endpoint, schema_of: dict[str, JSON]) -> dict[str, JSON]:
    if isinstance(line.answer, str):
        return {line.answer: {"schema": {"type": "string", "contentMediaType": line.answer}}}
    content: dict[str, JSON] = {"application/json": {"schema": schema_of[_key(line.answer)]}}
    if line.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return content


def _query(line: Endpoint, schema_of: dict[str, JSON], components: dict[str, Any]) -> list[dict[str, Any]]:
    schema = components[schema_of[_key(line.query)]["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    return [
        {"name": name, "in": "query", "required": name in required, "schema": kind}
        | ({"style": "deepObject", "explode": True} if kind.get("type") == "object" else {})
        for name, kind in schema["properties"].items()
    ]


def _summary(line: Endpoint) -> str:
    """Return what the handler says it does, without the method and path that it may begin with."""
    first = (line.handler.__doc__ or "").strip().partition("\n\n")[0]
    told = _OWN_PATH.sub("", " ".join(first.split()))
    name = getattr(line.handler, "__name__", "call").replace("_", " ")
    return (told or f"{name}.")[:1].upper() + (told or f"{name}.")[1:]


def _tag(path: str) -> str:
    parts = [part for part in path.removeprefix("/v1/").split("/") if part and "{" not in part]
    return parts[0]


def _has_schema(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, str)


def _key(kind: Any) -> str:
    return repr(kind) if get_origin(kind) is not None else f"{kind.__module__}.{kind.__qualname__}"


def handler(table: Sequence[Endpoint], kinds: Kinds) -> Any:
    """Return the handler of GET /openapi.json; the document is made with the first call."""
    made: dict[str, JSON] = {}
    """By the policy that it speaks of."""

    async def openapi(call: Call) -> ASGIApp:
        """Return this document."""
        policy = call.services.policy
        if policy.sha256 not in made:
            made[policy.sha256] = document(table, kinds, policy)
        return JSONResponse(made[policy.sha256])

    return openapi
