"""The sentence encoder of this installation as a provider: vectors of texts, computed here.

Requests that come while the encoder works wait together and pass it as one batch: it reads many texts in little more
time than one.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import ClassVar, Final, NamedTuple

from bessemer.core.errors import ProviderError, StoreError
from bessemer.core.models import Capability, ProviderSettings
from bessemer.core.reply import ReplyPiece, Usage
from bessemer.core.types import JSON
from bessemer.engine.rungs.head import Vectors
from bessemer.gateway.providers.base import ProviderCall, ProviderKind
from bessemer.gateway.providers.networks import Networks

_MOST: Final = 256
"""Texts of several requests that pass the encoder together."""


class EncoderSettings(ProviderSettings, frozen=True):
    """The encoder is the installation's: the setting `embedding_model` names another than all-MiniLM-L6-v2."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.EMBED})
    shares_machine: ClassVar[bool] = True

    def identity(self, name: str) -> JSON:
        """Return the name alone: which encoder that is, the setting says."""
        return {"encoder": name}


class _Waiting(NamedTuple):
    texts: list[str]
    done: "asyncio.Future[tuple[Vectors, int, float]]"
    """Vectors, tokens, and the seconds that its share of a batch took."""


class EncoderProvider:
    """Makes vectors with the installation's encoder. Used on one event loop."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._waiting: list[_Waiting] = []
        self._working: asyncio.Task[None] | None = None

    async def complete(self, call: ProviderCall) -> AsyncIterator[ReplyPiece]:
        """Yield one piece with a vector for each message. See Provider.

        Raises InvalidRequest for a text that is too long, ProviderError where there is no encoder.
        """
        mine = _Waiting([message.text for message in call.messages], asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            vectors, tokens, seconds = await mine.done
        except StoreError as error:
            raise ProviderError(error.message, code="no_encoder") from error
        yield ReplyPiece(
            vectors=tuple(vectors.tolist()),
            finish_reason="stop",
            usage=Usage(input_tokens=tokens, output_tokens=0, seconds=seconds),
        )

    async def close(self) -> None:
        """End the work under way."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    async def _work(self) -> None:
        while batch := self._next():
            try:
                await self._together(batch)
            except Exception as error:
                if len(batch) == 1:
                    _fail(batch[0], error)
                    continue
                for one in batch:  # the fault of one must not be that of the others
                    try:
                        await self._together([one])
                    except Exception as own:
                        _fail(one, own)

    def _next(self) -> list[_Waiting]:
        """Take those that wait, in their order, until a batch is full."""
        taken: list[_Waiting] = []
        count = 0
        self._waiting = [one for one in self._waiting if not one.done.done()]  # whose client has left
        while self._waiting and (not taken or count + len(self._waiting[0].texts) <= _MOST):
            taken.append(self._waiting.pop(0))
            count += len(taken[-1].texts)
        return taken

    async def _together(self, batch: list[_Waiting]) -> None:
        texts = [text for one in batch for text in one.texts]
        began = time.perf_counter()
        vectors, counts = await self._networks.embedded(texts)
        seconds, at = time.perf_counter() - began, 0
        for one in batch:
            end = at + len(one.texts)
            if not one.done.done():
                one.done.set_result((vectors[at:end], sum(counts[at:end]), seconds * len(one.texts) / len(texts)))
            at = end


def _fail(one: _Waiting, error: Exception) -> None:
    if not one.done.done():
        one.done.set_exception(error)


ENCODER: Final = ProviderKind("encoder", EncoderSettings, lambda context: EncoderProvider(context.networks))
