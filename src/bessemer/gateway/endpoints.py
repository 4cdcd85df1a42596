"""The servers that answer for one model: which one is asked next, and which of them fail now.

Of two that are drawn by weight the one is asked whose requests would wait less: those under way and one more, times the
seconds to the first piece of its latest answers (power of two choices: Mitzenmacher 2001). Where a model asks for
affinity, requests of one prefix, user or episode go to the same server for as long as it is well and not crowded.
"""

import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from bessemer.core.models import Model
from bessemer.gateway.breakers import Breakers
from bessemer.gateway.exchange import Exchange
from bessemer.gateway.providers.base import ProviderCall

_FRESH: Final = 0.2
"""Weight of the latest answer's seconds in the moving mean."""
_CROWDED: Final = 1.25
"""How many times the mean of requests under way a server may have and still be given those that prefer it
(consistent hashing with bounded loads: Mirrokni, Thorup, Zadimoghaddam 2018)."""
_PREFIX: Final = 512
"""Characters of the first messages by which requests of one prefix are known."""


@dataclass(slots=True)
class LiveEndpoint:
    """One server of a model, with what is known of its load."""

    name: str
    """For breakers, records and metrics: the model's name, or `model/endpoint` where it has several."""
    model: Model
    """The model, with this server's address and key alone."""
    weight: float = 1.0
    running: int = 0
    seconds: float | None = None
    """Moving mean of the time to the first piece of an answer."""

    def wait(self, unknown: float) -> float:
        """Return how long one more request would wait, in relation to others."""
        return (self.running + 1) * (unknown if self.seconds is None else self.seconds) / self.weight

    def answered(self, seconds: float) -> None:
        """Note the time to the first piece of an answer."""
        self.seconds = seconds if self.seconds is None else (1 - _FRESH) * self.seconds + _FRESH * seconds


@dataclass(slots=True)
class _Known:
    model: Model
    endpoints: tuple[LiveEndpoint, ...] = field(default=())


class Endpoints:
    """The endpoints of all models of one process. Used on one event loop."""

    def __init__(
        self,
        timer: Callable[[], float] = time.perf_counter,
        *,
        observe: Callable[[str, int], None] | None = None,
        draws: random.Random | None = None,
    ) -> None:
        """`observe` is told 1 of an endpoint that is avoided from now on, 0 when it is no more."""
        self._breakers = Breakers(timer, observe)
        self._draws = draws or random.Random()  # noqa: S311 - the load is no secret
        self._known: dict[str, _Known] = {}

    def of(self, model: Model) -> tuple[LiveEndpoint, ...]:
        """Return a model's endpoints; the configuration in force decides, how fast they are is still known."""
        known = self._known.get(model.name)
        if known is None or known.model is not model:
            known = self._known[model.name] = _Known(model, self._read(model, () if known is None else known.endpoints))
        return known.endpoints

    @property
    def quiet(self) -> bool:
        """Whether nothing has failed of late: then everything is ready."""
        return self._breakers.quiet

    def ready(self, model: Model) -> bool:
        """Say whether any endpoint of a model may be asked in preference to other models."""
        return self._breakers.quiet or any(self._breakers.ready(one.name) for one in self.of(model))

    def choose(
        self, model: Model, exchange: Exchange, call: ProviderCall, tried: Sequence[LiveEndpoint] = ()
    ) -> LiveEndpoint:
        """Return the endpoint to ask: one not yet tried, and one that does not fail now, where there is any."""
        every = self.of(model)
        if len(every) == 1:
            return every[0]
        left = [one for one in every if one not in tried] or list(every)
        well = [one for one in left if self._breakers.ready(one.name)] or left
        if len(well) == 1:
            return well[0]
        if (key := _affinity(model, exchange, call)) is not None:
            return _preferred(well, key)
        one, other = self._two(well)
        known = [each.seconds for each in well if each.seconds is not None]
        unknown = min(known, default=1.0)  # a new one is tried as if it were the fastest
        return min(one, other, key=lambda each: each.wait(unknown))

    def begin(self, endpoint: LiveEndpoint) -> None:
        """Note that one is asked."""
        endpoint.running += 1
        self._breakers.begin(endpoint.name)

    def end(self, endpoint: LiveEndpoint, error: BaseException | None, began: float, first: float | None) -> None:
        """Note how that ended, when it began and when its first piece came, on the timer's clock."""
        endpoint.running -= 1
        if first is not None:
            endpoint.answered(first - began)
        self._breakers.end(endpoint.name, error, began)

    def _two(self, endpoints: list[LiveEndpoint]) -> tuple[LiveEndpoint, LiveEndpoint]:
        """Draw two different ones by weight."""
        first = self._draws.choices(endpoints, [one.weight for one in endpoints])[0]
        rest = [one for one in endpoints if one is not first]
        return first, self._draws.choices(rest, [one.weight for one in rest])[0]

    def _read(self, model: Model, before: Sequence[LiveEndpoint]) -> tuple[LiveEndpoint, ...]:
        seen: Mapping[str, LiveEndpoint] = {one.name: one for one in before}
        made = []
        for place in model.settings.places():
            name = model.name if place.name is None else f"{model.name}/{place.name}"
            own = model if place.name is None else msgspec.structs.replace(model, settings=place.settings)
            known = seen.get(name)
            same = known is not None and known.model.settings == own.settings
            made.append(LiveEndpoint(name, own, place.weight, seconds=known.seconds if same and known else None))
        return tuple(made)


def _affinity(model: Model, exchange: Exchange, call: ProviderCall) -> str | None:
    """Return what the requests have in common that should meet the same server; None: nothing."""
    asked = exchange.asked
    match model.settings.affinity:
        case "user":
            return asked.user
        case "episode":
            return asked.episode_id
        case "prefix":
            text = "\n".join(message.text for message in call.messages[:2])
            return f"{exchange.principal.project_id}\n{text[:_PREFIX]}"
        case _:
            return None


def _preferred(endpoints: Sequence[LiveEndpoint], key: str) -> LiveEndpoint:
    """Return the first in the key's own order (rendezvous hashing, by weight) that is not crowded."""

    def rank(one: LiveEndpoint) -> float:
        digest = hashlib.sha256(f"{one.name}\n{key}".encode()).digest()
        point = (int.from_bytes(digest[:7], "big") + 1) / (2**56 + 1)
        return -one.weight / math.log(point)

    bound = max(1.0, _CROWDED * (sum(one.running for one in endpoints) + 1) / len(endpoints))
    order = sorted(endpoints, key=rank, reverse=True)
    return next((one for one in order if one.running + 1 <= bound), order[0])
