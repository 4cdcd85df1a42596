"""What the configuration file says of a server that is asked over HTTP: its address and how long it may take."""

import math
import re
from urllib.parse import urlsplit

import msgspec

from bessemer.core.errors import ConfigError
from bessemer.core.types import Timeouts


class TimeoutsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[timeouts]`, or `timeouts` of a model; what is not given is as it is elsewhere."""

    connect: float | None = None
    first_byte: float | None = None
    idle: float | None = None
    total: float | None = None


def timeouts_of(place: str, *sections: TimeoutsSection | None) -> Timeouts:
    """Return the timeouts of the first section that gives each, otherwise the default."""
    given: dict[str, float] = {}
    for section in reversed(sections):
        if section is not None:
            given.update({name: value for name, value in msgspec.structs.asdict(section).items() if value is not None})
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise ConfigError(f"[{place}]: timeouts.{name} must be above 0 seconds, not {value:g}.", param=name)
    return Timeouts(**given)


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
