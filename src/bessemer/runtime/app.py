"""The ASGI application of the API process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.routing import Router
from starlette.types import ASGIApp

from bessemer.http.front import Front
from bessemer.http.origins import for_browsers
from bessemer.http.paths import Spellings
from bessemer.http.routing import build_router
from bessemer.http.services import ApiServices
from bessemer.http.surface import PUBLIC, table
from bessemer.identity.authentication import Authenticator
from bessemer.identity.denials import Denials
from bessemer.runtime.compose import close_services
from bessemer.runtime.extensions import load_extensions


def build(services: ApiServices) -> ASGIApp:
    """Return the application over running services; it closes them when it stops."""

    denials, extensions = Denials(services.writer), load_extensions()

    @asynccontextmanager
    async def lifespan(_router: Router) -> AsyncIterator[None]:
        yield
        denials.tell_rest()
        await close_services(services)

    endpoints, settings = table(extensions.dialects, extensions.kinds, extensions.endpoints), services.settings
    front = Front(
        build_router(endpoints, services, lifespan),
        Authenticator(services.keys, services.counters, settings.invalid_keys_per_minute),
        services.metrics.http,
        denials.denied,
        max_body_bytes=settings.max_body_bytes,
        max_file_bytes=settings.max_file_bytes,
        max_concurrent=settings.max_concurrent_requests,
        public=PUBLIC,
        dialects={dialect.path: dialect for dialect in extensions.dialects},
        spellings=Spellings(line.path for line in endpoints),
    )
    return front if not settings.cors_origins else for_browsers(front, settings.cors_origins)
