"""Job ids: fresh, or derived from the caller's Idempotency-Key so that a repeated POST finds its first job."""

from bessemer.core.content import content_hash
from bessemer.core.errors import InvalidRequest
from bessemer.core.ids import new_id
from bessemer.server.http import Call


def job_id(call: Call, prefix: str) -> str:
    """Return the id of the job that this call makes. Keys of different callers never meet."""
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return new_id(prefix)
    if not 1 <= len(key) <= 255:
        raise InvalidRequest("The Idempotency-Key header must have 1 to 255 characters.", param="idempotency-key")
    return f"{prefix}-{content_hash([call.principal.key_id, prefix, key])[:32]}"
