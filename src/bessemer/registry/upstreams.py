"""What the configuration file says of a server that is asked over HTTP: its address, its key, how long it may take."""

import math
import re
from collections.abc import Mapping
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

import msgspec

from bessemer.core.errors import ConfigError
from bessemer.core.models import ConfiguredAt, Place, ProviderSettings
from bessemer.core.types import JSON, Frozen

_KEY = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_RETRIES = 10
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


class UpstreamEndpoint(Frozen, frozen=True):
    """One of several servers, or keys, that answer for one model; what it does not say is as the model says."""

    base_url: str
    api_key_env: str | None = None
    upstream_model: str | None = None
    weight: float = 1.0
    """How often it is among the two of which the less busy one is asked, in relation to the others."""
    name: str | None = None
    """In records, logs and metrics; default: its number, from 1."""


class UpstreamSettings(ProviderSettings, frozen=True):
    """Settings of a model that a server answers for."""

    estimates_tokens: ClassVar[bool] = True
    base_url: str = ""
    """The server's base URL, up to and including /v1; with `endpoints`, that of the first."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    upstream_model: str | None = None
    """The model name there; default: the name here."""
    timeouts: Timeouts = Timeouts()
    endpoints: tuple[UpstreamEndpoint, ...] = ()
    """Several servers of the same model, in place of `base_url`."""
    retries: int = -1
    """How often a try that failed before its first piece is repeated; -1: once by each further endpoint."""
    hedge_after: float | None = None
    """Seconds without a first piece after which another endpoint, or this one once more, is asked as well."""
    affinity: Literal["none", "prefix", "user", "episode"] = "none"
    """What requests have in common that should meet the same endpoint, whose cache may know them."""

    def completed(self, at: ConfiguredAt) -> Self:
        """Refuse an address or a number that cannot be; fill in the address and the retries."""
        if not self.base_url and not self.endpoints:
            raise ConfigError(f"[{at.place}]: it needs base_url, or endpoints.", param="base_url")
        if self.base_url and self.endpoints:
            raise ConfigError(f"[{at.place}]: give base_url or endpoints, not both.", param="endpoints")
        for url in [one.base_url for one in self.endpoints] or [self.base_url]:
            check_base_url(at.place, url)
        for name, value in msgspec.structs.asdict(self.timeouts).items():
            if not 0 < value < math.inf:
                raise ConfigError(f"[{at.place}]: timeouts.{name} must be above 0 seconds, not {value:g}.", param=name)
        if self.hedge_after is not None and not 0 < self.hedge_after < math.inf:
            raise ConfigError(
                f"[{at.place}]: hedge_after must be above 0 seconds, not {self.hedge_after:g}.", param="hedge_after"
            )
        if not -1 <= self.retries <= _MOST_RETRIES:
            raise ConfigError(
                f"[{at.place}]: retries must be from 0 to {_MOST_RETRIES}, not {self.retries}.", param="retries"
            )
        self._check_endpoints(at.place)
        return msgspec.structs.replace(
            self,
            base_url=self.base_url or self.endpoints[0].base_url,
            retries=max(0, len(self.endpoints) - 1) if self.retries < 0 else self.retries,
        )

    def _check_endpoints(self, place: str) -> None:
        names = [place.name for place in self.places()]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"[{place}]: two endpoints are called {twice!r}; rename one.", param="endpoints")
        for one in self.endpoints:
            if one.name is not None and not _NAME.fullmatch(one.name):
                message = (
                    f"[{place}]: an endpoint's name is 1 to 64 letters, digits, '.', '_' or '-', not {one.name!r}."
                )
                raise ConfigError(message, param="endpoints")
            if not 0 < one.weight < math.inf:
                raise ConfigError(f"[{place}]: an endpoint's weight must be above 0.", param="endpoints")

    def places(self) -> tuple[Place, ...]:
        """Return each endpoint with the settings that are its own alone."""
        if not self.endpoints:
            return (Place(None, self),)
        return tuple(
            Place(
                one.name or str(number),
                msgspec.structs.replace(
                    self,
                    base_url=one.base_url,
                    api_key_env=one.api_key_env or self.api_key_env,
                    upstream_model=one.upstream_model or self.upstream_model,
                    endpoints=(),
                ),
                one.weight,
            )
            for number, one in enumerate(self.endpoints, 1)
        )

    def identity(self, name: str) -> JSON:
        """Return the address and the model's name there; one more server of the same model makes no new version."""
        return {"path": None, "base_url": self.base_url, "upstream_model": self.upstream_model or name}

    def secrets(self, place: str, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Return the keys, if there are any."""
        of_endpoints = [one.settings for one in self.places() if isinstance(one.settings, UpstreamSettings)]
        keys = (settings.api_key(place, environ) for settings in of_endpoints)
        return tuple(key for key in keys if key is not None)

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
