"""The ASGI application of the API process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.routing import Router
from starlette.types import ASGIApp

from bessemer.http.front import Front
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

    return Front(
        build_router(table(extensions.dialects, extensions.kinds, extensions.endpoints), services, lifespan),
        Authenticator(services.keys, services.counters, services.settings.invalid_keys_per_minute),
        services.metrics.http,
        denials.denied,
        max_body_bytes=services.settings.max_body_bytes,
        max_file_bytes=services.settings.max_file_bytes,
        max_concurrent=services.settings.max_concurrent_requests,
        public=PUBLIC,
        dialects={dialect.path: dialect for dialect in extensions.dialects},
    )
