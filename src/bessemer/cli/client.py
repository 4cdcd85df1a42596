"""The command line's HTTP client of the control API: blocking, JSON in and out, named errors.

The standard library's client keeps start-up short; nothing here streams.
"""

import http.client
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from bessemer.core.errors import (
    BessemerError,
    ConfigError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unauthorized,
)

_BY_STATUS: Mapping[int, type[BessemerError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
}
TIMEOUT_S = 900.0
"""Building a large dataset takes a while; nothing shorter ends a command."""


class Unreachable(BessemerError):
    """The server does not answer."""

    status = 503
    code = "unreachable"


class Client:
    """Speaks to one server with one key."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise ConfigError(f"The URL {url!r} is not http(s)://host[:port]; give another with --url.", param="url")
        self.url = url.rstrip("/")
        self._parts = parts
        self._key = key

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """GET; a query value of None is left out."""
        values = {name: value for name, value in (query or {}).items() if value is not None}
        return json.loads(self._ask("GET", path + (f"?{urlencode(values)}" if values else ""), None, {}))

    def send(self, method: str, path: str, body: Any) -> Any:
        """POST, PUT or DELETE a JSON body; None fields of a dict are left out."""
        if isinstance(body, dict):
            body = {name: value for name, value in body.items() if value is not None}
        headers = {"content-type": "application/json", "idempotency-key": secrets.token_hex(16)}
        return json.loads(self._ask(method, path, None if body is None else json.dumps(body).encode(), headers))

    def upload(self, file: Path, purpose: str) -> Any:
        """Send a file to /v1/files."""
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"Cannot read {str(file)!r}: {error.strerror}.", param="file") from None
        mark = secrets.token_hex(16)
        head = (
            f'--{mark}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="{quote(file.name)}"\r\n\r\n'
        )
        body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
        return json.loads(
            self._ask("POST", "/v1/files", body, {"content-type": f"multipart/form-data; boundary={mark}"})
        )

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        parts = self._parts
        assert parts.hostname is not None
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
        try:
            connection.request(
                method, parts.path.rstrip("/") + path, body, {"authorization": f"Bearer {self._key}", **headers}
            )
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"No answer from {self.url} ({error}); is `bessemer up` running? Another address: --url."
            ) from None
        finally:
            connection.close()
        if response.status >= 400:
            raise _error(response.status, content)
        return content


def _error(status: int, content: bytes) -> BessemerError:
    try:
        body = json.loads(content)["error"]
        message, param, code = str(body["message"]), body.get("param"), body.get("code")
    except (ValueError, KeyError, TypeError):
        message, param, code = f"The server answered {status}.", None, None
    fallback = InvalidRequest if status < 500 else BessemerError
    return _BY_STATUS.get(status, fallback)(message, param=param, code=code)


def segment(name: str) -> str:
    """Return a name as one path segment."""
    return quote(name, safe=":@")


def connect(url: str | None, key: str | None, data: Path) -> Client:
    """Return a client: flags, then BESSEMER_URL and BESSEMER_API_KEY, then what `bessemer up` left in the folder."""
    url = url or os.environ.get("BESSEMER_URL") or _read(data / "server.url") or "http://127.0.0.1:8080"
    key = key or os.environ.get("BESSEMER_API_KEY") or _read(data / "admin.key")
    if key is None:
        raise ConfigError(
            f"No API key: give --key or BESSEMER_API_KEY; none is stored in {str(data / 'admin.key')!r}.", param="key"
        )
    return Client(url, key)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
