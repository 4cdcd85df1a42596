"""What the flywheel's jobs work with, built once by the composition root."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from bessemer.core.access import Action, Principal, Resource, ResourceKind
from bessemer.core.errors import NotFound
from bessemer.evals.grader import GraderServices
from bessemer.gateway.pipeline import INTERNAL, Gateway, on_behalf_of
from bessemer.gateway.providers.networks import Networks
from bessemer.identity.policy import Policy
from bessemer.registry.catalog import Catalog
from bessemer.store.blobs import BlobStore
from bessemer.store.database import Database
from bessemer.store.job_rows import JobRow
from bessemer.store.writer import Writer


@dataclass(frozen=True)
class FlywheelServices:
    """The parts of a running installation that evaluations and promotions use."""

    database: Database
    blobs: BlobStore
    catalog: Catalog
    gateway: Gateway
    writer: Writer
    graders: GraderServices
    policy: Policy
    wait: Callable[[Coroutine[Any, Any, Any]], Any]
    """Runs a coroutine on the installation's event loop and waits for its result."""
    networks: Networks
    """Whose vectors heads read."""
    principal: Principal = INTERNAL
    """Who asks models."""

    def asked_by(self, principal: Principal) -> "FlywheelServices":
        """Return the parts as somebody's project sees them; models are asked for him."""
        return replace(
            self,
            database=self.database.within(principal.project_id),
            catalog=self.catalog.seen_by(principal),
            graders=self.graders.asked_by(principal),
            principal=principal,
        )

    def check_may_ask(self, name: str) -> None:
        """Raise NotFound for a name that is not for the one who asks."""
        route = Resource(kind=ResourceKind.ROUTE, id=name, project_id=self.principal.project_id)
        if not self.policy.decide(self.principal, Action.ROUTE_INVOKE, route).allowed:
            raise NotFound(f"There is no model {name!r} that this key may ask for.", param="model")

    def of_project(self, project: str) -> "FlywheelServices":
        """Return the parts as a project sees them, for what nobody asked for."""
        return self.asked_by(on_behalf_of(None, project, None))

    def of_job(self, row: JobRow) -> "FlywheelServices":
        """Return the parts as a job sees them: those of its project, on behalf of the key that made it."""
        return self.asked_by(on_behalf_of(row.key_id, row.project_id, row.models))
