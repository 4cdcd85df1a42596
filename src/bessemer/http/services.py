"""What handlers may use: the parts of a running application, wired by the composition root."""

from dataclasses import dataclass

from bessemer.core.settings import Settings
from bessemer.core.types import JSON
from bessemer.evals.grader import GraderServices
from bessemer.flywheel.services import FlywheelServices
from bessemer.flywheel.watch import RouteWatch
from bessemer.gateway.answer_cache import AnswerCache
from bessemer.gateway.pipeline import Gateway
from bessemer.http.grading import Grading
from bessemer.http.probe import DatabaseProbe
from bessemer.identity.keys import Keys
from bessemer.identity.policy import Policy
from bessemer.registry.catalog import Catalog
from bessemer.store.blobs import BlobStore
from bessemer.store.counters import Counters
from bessemer.store.database import Database
from bessemer.store.leases import Leases
from bessemer.store.notices import ChangeNotices
from bessemer.store.writer import Writer
from bessemer.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class ApiServices:
    """One of each; all of them live as long as the application."""

    settings: Settings
    database: Database
    database_probe: DatabaseProbe
    blobs: BlobStore
    catalog: Catalog
    gateway: Gateway
    answers: AnswerCache
    keys: Keys
    policy: Policy
    notices: ChangeNotices
    counters: Counters
    leases: Leases
    """Of the limits; closed with the services."""
    writer: Writer
    metrics: Metrics
    graders: GraderServices
    grading: Grading
    graders_fence: JSON
    """What keeps the code of graders in on this machine, and whether it runs."""
    flywheel: FlywheelServices
    watch: RouteWatch
    """The monitors of routes."""
    started_at: float
    code_commit: str | None
