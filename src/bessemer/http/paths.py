"""Paths as clients spell them: with /v1 or without, as Azure does, and the endpoint's own path that each means."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.types import Scope

_AZURE: Final = re.compile(r"/openai(?:/deployments/(?P<deployment>[^/]+))?(?:/v1)?(?P<rest>/.+)")
DEPLOYMENT: Final = "bessemer.deployment"
"""In a scope: the model that the path names; whatever the body says of it, Azure's clients mean this one."""


class MeantPath(NamedTuple):
    """What a path means."""

    path: str
    deployment: str | None = None


class Spellings:
    """Finds an endpoint's path."""

    def __init__(self, paths: Iterable[str]) -> None:
        """`paths`: of all endpoints; those under /v1 can be spelled otherwise."""
        self._first = {path.split("/")[2] for path in paths if path.startswith("/v1/")}

    def meant(self, path: str) -> MeantPath:
        """Return what a path means; itself where it is no other spelling.

        Azure: https://learn.microsoft.com/azure/ai-foundry/openai/reference (read 2026-12).
        """
        if path.startswith("/v1/") or not path.startswith("/"):
            return MeantPath(path)
        if (azure := _AZURE.fullmatch(path)) is not None:
            name = azure["deployment"]
            return MeantPath(f"/v1{azure['rest']}", None if name is None else unquote(name))
        return MeantPath(f"/v1{path}" if path.removeprefix("/").partition("/")[0] in self._first else path)

    def respelled(self, scope: Scope) -> Scope:
        """Return the scope of an HTTP request with the path that it means; Azure's `api-version` says nothing here."""
        path = scope["path"]
        if path.startswith("/v1/") or (meant := self.meant(path)).path == path:
            return scope
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        left = [(name, value) for name, value in query if name != "api-version"]
        return {
            **scope,
            "path": meant.path,
            "raw_path": meant.path.encode(),
            "query_string": scope["query_string"] if left == query else urlencode(left).encode(),
            DEPLOYMENT: meant.deployment,
        }
