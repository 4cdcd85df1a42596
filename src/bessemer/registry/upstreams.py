"""What the configuration file says of a server that is asked over HTTP: its address, its key, how long it may take."""

import math
import re
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

import msgspec

from bessemer.core.errors import ConfigError
from bessemer.core.models import ConfiguredAt, ProviderSettings
from bessemer.core.types import JSON, Frozen

_KEY = re.compile(r"[\x21-\x7e]+")
_QUOTES = "\"'`"


class Timeouts(Frozen, frozen=True):
    """Seconds that an upstream may take."""

    connect: float = 10.0
    first_byte: float = 120.0
    """Of a stream, until the first byte of its body, a comment included."""
    idle: float = 60.0
    """Of a stream, between two pieces, comments included."""
    total: float = 600.0
    """Of a whole answer, streamed or not."""


class UpstreamSettings(ProviderSettings, frozen=True):
    """Settings of a model that a server answers for."""

    base_url: str
    """The server's base URL, up to and including /v1."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    upstream_model: str | None = None
    """The model name there; default: the name here."""
    timeouts: Timeouts = Timeouts()

    def completed(self, at: ConfiguredAt) -> Self:
        """Refuse an address or a timeout that cannot be."""
        check_base_url(at.place, self.base_url)
        for name, value in msgspec.structs.asdict(self.timeouts).items():
            if not 0 < value < math.inf:
                raise ConfigError(f"[{at.place}]: timeouts.{name} must be above 0 seconds, not {value:g}.", param=name)
        return self

    def identity(self, name: str) -> JSON:
        """Return the address and the model's name there."""
        return {"path": None, "base_url": self.base_url, "upstream_model": self.upstream_model or name}

    def secrets(self, place: str, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Return the key, if there is one."""
        key = self.api_key(place, environ)
        return () if key is None else (key,)

    def api_key(self, place: str, environ: Mapping[str, str]) -> str | None:
        """Return the key that the server is sent, without spaces or line ends around it; None when it needs none.

        Raises ConfigError by the variable's name, never with its value, for a key that is missing or cannot be one.
        """
        if self.api_key_env is None:
            return None
        key = environ.get(self.api_key_env, "").strip()
        where = f"[{place}]: the environment variable {self.api_key_env!r}"
        if not key:
            raise ConfigError(f"{where} is not set or empty; set it and start again.", param="api_key_env")
        if key[0] in _QUOTES or key[-1] in _QUOTES:
            raise ConfigError(f"{where} has quotes around the key; remove them.", param="api_key_env")
        if not _KEY.fullmatch(key):
            raise ConfigError(
                f"{where} holds a space, a line end or a character that is not ASCII; copy the key again.",
                param="api_key_env",
            )
        return key


def check_base_url(place: str, url: str) -> None:
    """Refuse what no request can be sent to, by name, before the first request finds out."""
    try:
        parts = urlsplit(url)
        port = parts.port
        faulty = parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not url.isascii()
    except ValueError:
        faulty, parts = True, urlsplit("")
    if faulty or re.search(r"[\s\x00-\x1f\x7f\"'<>\\]", url):
        why = "it is not http://HOST[:PORT]/v1 or https://HOST[:PORT]/v1"
    elif parts.username is not None or parts.password is not None:
        why = "it holds a user or password: name the variable of the key in api_key_env instead"
    elif parts.query or parts.fragment or "?" in url or "#" in url:
        why = "it has a query or a fragment: remove it"
    elif parts.path.rstrip("/").endswith("/chat/completions"):
        why = "/chat/completions is added to it: end it before, mostly with /v1"
    elif parts.path.rstrip("/").endswith("/v1/v1"):
        why = "it ends in /v1 twice: write it once"
    else:
        return
    shown = url if parts.username is None else "the value"
    raise ConfigError(f"[{place}]: base_url {shown!r}: {why}.", param="base_url")
