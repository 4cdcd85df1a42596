"""Web pages of other origins: whether a browser lets their scripts call the API (CORS)."""

from collections.abc import Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
_SHOWN: Final = (
    "retry-after",
    "x-request-id",
    "x-bessemer-inference-id",
    "x-bessemer-guarantee",
    "x-bessemer-overhead-ms",
    *(f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
)
"""Headers of an answer that a script may read."""
_REMEMBERED_S: Final = 600


def for_browsers(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Return the application for scripts of these origins, or of all (`*`): preflights are answered without a key.

    Never with cookies: who calls is told by the key alone.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=["*"],
        expose_headers=_SHOWN,
        max_age=_REMEMBERED_S,
    )
