"""Rungs of ladders as a provider: an answer is the most probable of a few labels, in microseconds, without torch.

A rung is opened when it is first asked, from the two blobs that its version names, and stays in memory as long as its
kind fits the bound. An input that it was not made for gets its best guess without probabilities: a cascade hands it
over.
"""

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar, Final, NamedTuple

from bessemer.core.conversation import Choices
from bessemer.core.errors import ConfigError, InvalidRequest, ProviderError
from bessemer.core.models import Capability, ConfiguredAt, ProviderSettings
from bessemer.core.reply import ReplyPiece, Usage
from bessemer.engine.rungs import artefact
from bessemer.engine.rungs.head import Head
from bessemer.engine.rungs.items import item_of
from bessemer.engine.rungs.kinds import open_rung
from bessemer.engine.rungs.rung import Rung
from bessemer.gateway.providers.base import ProviderCall, ProviderKind
from bessemer.gateway.providers.choices import normalised
from bessemer.gateway.providers.networks import Networks
from bessemer.registry.config import RUNGS as NAME
from bessemer.store.blobs import BlobStore

_MEMORY: Final = 1 << 29
"""Bytes of arrays that rungs in memory may have."""
_LEAST: Final = 1e-12
"""Probability of a label that a rung holds for impossible: its logarithm has to be a number."""


class RungSettings(ProviderSettings, frozen=True):
    """Rungs have no table in the configuration file: a ladder makes them."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.COMPLETE, Capability.INPUT})
    shares_machine: ClassVar[bool] = True
    choice_temperature: ClassVar[float | None] = 0.0
    temperature: ClassVar[float | None] = 0.0

    def completed(self, at: ConfiguredAt) -> "RungSettings":
        """Raise ConfigError: the file cannot name a rung."""
        raise ConfigError(f"[{at.place}]: rungs are made by `bessemer ladder`; remove the table.", param="provider")


class _Opened(NamedTuple):
    rung: Rung
    size: int
    """Bytes of its arrays."""


class RungProvider:
    """Answers with rungs in this process. Used on one event loop."""

    def __init__(self, blobs: BlobStore, networks: Networks) -> None:
        self._blobs, self._networks = blobs, networks
        self._opened: OrderedDict[str, asyncio.Task[_Opened]] = OrderedDict()
        """By the manifest's hash; the one used last stands last."""

    async def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        """Answer with one label. See Provider. Raises InvalidRequest, EngineError for a damaged rung."""
        rung = await self._open(call)
        choices = _choices(call, rung)
        begun = time.perf_counter()
        items = [item_of(call.input, [one.plain() for one in call.messages])]
        if isinstance(rung, Head):
            vectors = await self._networks.vectors(rung.kind, rung.parameters.network, rung.texts(items))
            said = rung.answered(items, vectors)
        else:
            said = rung.predict(items)
        shown = said.probabilities[0].tolist()
        scores = {label: math.log(max(share, _LEAST)) for label, share in zip(choices.labels, shown, strict=False)}
        seconds = time.perf_counter() - begun
        known = normalised(scores, choices.bias)
        yield ReplyPiece(
            text=_drawn(known, call),
            finish_reason="stop",
            usage=Usage(input_tokens=0, output_tokens=0, seconds=seconds),
            choice_logprobs=None if rung.outside(said)[0] else known,
        )

    async def close(self) -> None:
        """Forget the rungs."""
        self._opened.clear()

    async def _open(self, call: ProviderCall) -> Rung:
        sha256 = call.version.rung_sha256
        if sha256 is None:
            raise ProviderError(f"{call.version.id!r} names no rung.", retryable=False)
        task = self._opened.get(sha256)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.create_task(asyncio.to_thread(self._read, sha256))
            self._opened[sha256] = task
        self._opened.move_to_end(sha256)
        if task.done():
            return task.result().rung
        opened = await asyncio.shield(task)  # one impatient client must not cancel the opening that others wait for
        self._make_room()
        return opened.rung

    def _read(self, sha256: str) -> "_Opened":
        kept = artefact.fetch(self._blobs.read, sha256)
        return _Opened(open_rung(kept), sum(array.nbytes for array in kept.arrays.values()))

    def _make_room(self) -> None:
        """Forget the rungs that were used longest ago until the rest fits."""
        ready = [(sha256, task) for sha256, task in self._opened.items() if task.done() and not task.exception()]
        size = sum(task.result().size for _, task in ready)
        for sha256, task in ready[:-1]:
            if size > _MEMORY:
                size -= task.result().size
                del self._opened[sha256]


def _choices(call: ProviderCall, rung: Rung) -> Choices:
    """Return what the answer is one of. Raises InvalidRequest for what a rung cannot answer."""
    constraint = call.rules.constraint
    if constraint is None:
        return Choices(labels=rung.labels)
    if not isinstance(constraint, Choices):
        raise InvalidRequest(
            f"{call.version.id!r} answers with one of a few labels; leave out `response_format`, or ask another model.",
            param=call.rules.requested or "response_format",
        )
    return constraint


def _drawn(scores: Mapping[str, float], call: ProviderCall) -> str:
    """Return the label of the highest score, or one drawn at the temperature that is asked for."""
    temperature = call.sampling.temperature or 0.0
    if temperature == 0.0:
        return max(scores, key=lambda label: scores[label])
    weights = [math.exp(score / temperature) for score in scores.values()]
    return random.Random(call.sampling.seed).choices(list(scores), weights)[0]  # noqa: S311


RUNGS: Final = ProviderKind(NAME, RungSettings, lambda context: RungProvider(context.blobs, context.networks))
