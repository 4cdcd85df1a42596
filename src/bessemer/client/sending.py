"""What both clients share about sending: the address and the key, a call as an HTTP request, and when to try again."""

import os
import random
import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from bessemer.client.answers import Unreachable
from bessemer.client.operation import Operation, Upload
from bessemer.core.errors import BessemerError, ConfigError, Overloaded, RateLimited, StoreError

TIMEOUT_S: Final = 900.0
"""Building a large dataset takes a while; nothing shorter ends a call."""
RETRIES: Final = 2
PIECE: Final = 1 << 18
"""Bytes of a file in memory at a time."""
_VISIBLE = re.compile(r"[!-~]+")
"""All that a URL and an HTTP header carry as it is written."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
"""A server that asks for more patience than this is not waited for."""


class Form:
    """A file as multipart/form-data: its pieces, read as they are wanted, any number of times."""

    def __init__(self, upload: Upload) -> None:
        """Raises ConfigError for a file that cannot be read."""
        self._file = upload.file
        try:
            with upload.file.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
        except OSError as error:
            raise ConfigError(f"Cannot read {str(upload.file)!r}: {error.strerror}.", param="file") from None
        mark = secrets.token_hex(16)
        self._head = (
            f'--{mark}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{upload.purpose}\r\n'
            f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="{quote(upload.file.name)}"\r\n\r\n'
        ).encode()
        self._tail = f"\r\n--{mark}--\r\n".encode()
        self.headers = {
            "content-type": f"multipart/form-data; boundary={mark}",
            "content-length": str(len(self._head) + size + len(self._tail)),
        }

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the pieces."""
        yield self._head
        with self._file.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
        yield self._tail


class Prepared(NamedTuple):
    """A call as an HTTP request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | Form | None


class Sender:
    """One server's address with one key."""

    def __init__(self, url: str, key: str) -> None:
        """Raises ConfigError for a URL or a key that no request can carry."""
        self.parts = _split(url)
        self.url = url.rstrip("/")
        if not _VISIBLE.fullmatch(key):
            raise ConfigError("The API key has characters that no key has: spaces, or others than ASCII.", param="key")
        self._key = key

    def prepare(self, operation: Operation[Any]) -> Prepared:
        """Return a call as an HTTP request. Raises ConfigError for a file that cannot be read."""
        headers = {"authorization": f"Bearer {self._key}"}
        if operation.key is not None:
            headers["idempotency-key"] = operation.key
        body: bytes | Form | None = None
        if isinstance(operation.body, Upload):
            body = Form(operation.body)
            headers |= body.headers
        elif (fields := operation.json_body) is not None:
            body = msgspec.json.encode(fields)
            headers["content-type"] = "application/json"
        return Prepared(operation.method, self.parts.path.rstrip("/") + operation.target, headers, body)

    def no_answer(self, why: object, *, arrived: bool | None) -> Unreachable:
        """Return the error of a request to which nothing came back."""
        return Unreachable(f"No answer from {self.url} ({why}); is `bessemer up` running?", arrived=arrived)


def pause_s(operation: Operation[Any], error: BessemerError, tried: int, retries: int) -> float | None:
    """Return after how many seconds a failed call is sent again; None: it is not.

    Again: what never arrived or was turned away (429, overloaded); what may have arrived, or failed at the database,
    only where the same call may be made twice. The wait is `Retry-After`, and at least half a second, doubled each
    time.
    """
    turned_away = isinstance(error, RateLimited | Overloaded) or (
        isinstance(error, Unreachable) and error.arrived is False
    )
    unclear = isinstance(error, StoreError) or (isinstance(error, Unreachable) and error.arrived is None)
    if tried >= retries or not (turned_away or (unclear and operation.repeatable)):
        return None
    pause = max(_FIRST_PAUSE_S * 2**tried * random.uniform(1.0, 1.5), error.retry_after or 0)  # noqa: S311 - jitter
    return pause if pause <= _LONGEST_PAUSE_S else None


def _split(url: str) -> SplitResult:
    """Return a server's URL in parts. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        usable = bool(_VISIBLE.fullmatch(url) and host and parts.port != 0 and parts.scheme in {"http", "https"})
    except ValueError:  # a port that is no number, half an IPv6 address, a name that DNS cannot carry
        usable = False
    if not usable:
        raise ConfigError(f"The URL {url!r} is not http(s)://host[:port].", param="url")
    return parts
