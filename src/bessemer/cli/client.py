"""The command line's HTTP client of the control API: blocking, JSON in and out, named errors.

The standard library's client keeps start-up short; nothing here streams.
"""

import http.client
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

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
_VISIBLE = re.compile(r"[!-~]+")
"""All that a URL and an HTTP header carry as it is written."""


class Unreachable(BessemerError):
    """No Bessemer server answers at the address."""

    status = 503
    code = "unreachable"


class Answer(dict[str, Any]):
    """A JSON object that the server sent; without a field that Bessemer always sends, it is another server's."""

    def __missing__(self, field: str) -> Any:
        raise Unreachable(
            f"The answer has no {field!r}, so no Bessemer server sent it; give another address with --url."
        )

    def rows(self) -> list["Answer"]:
        """Return what a list holds."""
        rows = self["data"]
        if not isinstance(rows, list) or not all(isinstance(row, Answer) for row in rows):
            raise Unreachable("The answer is not a list of Bessemer's; give another address with --url.")
        return rows


class Client:
    """Speaks to one server with one key."""

    def __init__(self, url: str, key: str) -> None:
        """Raises ConfigError for a URL or a key that no request can carry."""
        self._parts = _split(url)
        self.url = url.rstrip("/")
        if not _VISIBLE.fullmatch(key):
            raise ConfigError(
                "The API key has characters that no key has (spaces, or others than ASCII); give another with --key.",
                param="key",
            )
        self._key = key

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Answer:
        """GET; a query value of None is left out."""
        values = {name: value for name, value in (query or {}).items() if value is not None}
        return self._ask("GET", path + (f"?{urlencode(values)}" if values else ""), None, {})

    def send(self, method: str, path: str, body: Any) -> Answer:
        """POST, PUT or DELETE a JSON body; None fields of a dict are left out."""
        if isinstance(body, dict):
            body = {name: value for name, value in body.items() if value is not None}
        headers = {"content-type": "application/json", "idempotency-key": secrets.token_hex(16)}
        return self._ask(method, path, None if body is None else json.dumps(body).encode(), headers)

    def upload(self, file: Path, purpose: str) -> Answer:
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
        return self._ask("POST", "/v1/files", body, {"content-type": f"multipart/form-data; boundary={mark}"})

    def download(self, path: str) -> bytes:
        """GET what is no JSON: a file's content, a version's adapter."""
        return self._exchange("GET", path, None, {})

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        content = self._exchange(method, path, body, headers)
        try:
            answer = json.loads(content, object_hook=Answer)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, Answer):
            raise Unreachable(f"{self.url} answers, but not as Bessemer does; give another address with --url.")
        return answer

    def _exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
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


def _split(url: str) -> SplitResult:
    """Return a server's URL in parts. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        usable = bool(_VISIBLE.fullmatch(url) and host and parts.port != 0 and parts.scheme in {"http", "https"})
    except ValueError:  # a port that is no number, half an IPv6 address, a name that DNS cannot carry
        usable = False
    if not usable:
        raise ConfigError(f"The URL {url!r} is not http(s)://host[:port]; give another with --url.", param="url")
    return parts


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
            f"No API key: give --key or BESSEMER_API_KEY; none can be read from {str(data / 'admin.key')!r}.",
            param="key",
        )
    return Client(url, key)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None
