"""What the flywheel's jobs work with, built once by the composition root."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bessemer.evals.grader import Services as GraderServices
from bessemer.gateway.pipeline import Gateway
from bessemer.registry.catalog import Catalog
from bessemer.store.blobs import Blobs
from bessemer.store.database import Database
from bessemer.store.writer import Writer


@dataclass(frozen=True)
class Services:
    """The parts of a running installation that evaluations and promotions use."""

    database: Database
    blobs: Blobs
    catalog: Catalog
    gateway: Gateway
    writer: Writer
    graders: GraderServices
    jobs_dir: Path
    """A folder per job for what it has done so far."""
    wait: Callable[[Coroutine[Any, Any, Any]], Any]
    """Runs a coroutine on the installation's event loop and waits for its result."""
