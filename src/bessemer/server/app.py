"""The ASGI application of the API process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.routing import Router
from starlette.types import ASGIApp

from bessemer.server.authentication import Authenticator
from bessemer.server.compose import close_services
from bessemer.server.denials import Denials
from bessemer.server.extensions import job_kinds
from bessemer.server.front import Front
from bessemer.server.routing import build_router
from bessemer.server.services import Services
from bessemer.server.surface import PUBLIC, table


def build(services: Services) -> ASGIApp:
    """Return the application over running services; it closes them when it stops."""

    denials = Denials(services.writer)

    @asynccontextmanager
    async def lifespan(_router: Router) -> AsyncIterator[None]:
        yield
        denials.tell_rest()
        await close_services(services)

    return Front(
        build_router(table(job_kinds()), services, lifespan),
        Authenticator(services.keys, services.settings.invalid_keys_per_minute),
        services.metrics.http,
        denials.denied,
        max_body_bytes=services.settings.max_body_bytes,
        max_file_bytes=services.settings.max_file_bytes,
        max_concurrent=services.settings.max_concurrent_requests,
        public=PUBLIC,
    )
