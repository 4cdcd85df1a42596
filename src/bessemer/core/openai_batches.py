"""OpenAI's batches: many requests in a file, answered while there is room (OpenAPI description of the API)."""

from typing import Annotated, Any, Literal

import msgspec

from bessemer.core.bounds import Name, Tags
from bessemer.core.openai import StrictWire, Wire
from bessemer.core.types import JSON, Frozen


class ExpiresAfter(StrictWire):
    """When a file goes by itself."""

    seconds: Annotated[int, msgspec.Meta(ge=3600, le=2_592_000)]
    anchor: Literal["created_at"] = "created_at"


class BatchRequest(StrictWire):
    """Body of POST /v1/batches."""

    input_file_id: Name
    endpoint: Name
    completion_window: Name
    """`24h`; also another number of minutes, hours or days, up to 30 days."""
    metadata: Tags | None = None
    output_expires_after: ExpiresAfter | None = None


class LineFault(Frozen, frozen=True):
    """What is wrong with a line of a batch's file."""

    code: str
    message: str
    line: int | None = None
    """From 1."""
    param: str | None = None


class RequestCounts(Frozen, frozen=True):
    """How many requests of a batch there are, were answered, and failed."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchProgress(Frozen, frozen=True):
    """How far a batch is."""

    counts: RequestCounts = RequestCounts()
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    cancelling_at: float | None = None
    faults: tuple[LineFault, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None


class BatchResult(BatchProgress, frozen=True):
    """What a batch made."""

    expired: bool = False
    """Its time ended before its requests did."""


class BatchObject(Wire, omit_defaults=False):
    """`batch`."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    created_at: int
    object: Literal["batch"] = "batch"
    errors: JSON | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    metadata: dict[str, str] | None = None

    @property
    def error(self) -> JSON | None:
        """The first fault, in the form of other jobs' errors."""
        return self.errors["data"][0] if self.errors else None


class BatchLine(msgspec.Struct):
    """A line of a batch's input file; unknown fields are left unread, as OpenAI does."""

    custom_id: str
    method: str
    url: str
    body: dict[str, Any]


class BatchResponse(Wire, omit_defaults=False):
    """What one request of a batch was answered."""

    status_code: int
    request_id: str
    body: Any


class BatchAnswer(Wire, omit_defaults=False):
    """A line of a batch's output or error file."""

    id: str
    custom_id: str
    response: BatchResponse | None = None
    error: JSON | None = None
