"""The networks of this process whose vectors heads read: a sentence encoder, and the engine's language models.

Each is loaded on first use. A head names the network that it was fitted on; vectors of another one would be plausible
and wrong, so another name is refused.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bessemer.core.errors import EngineError, InvalidRequest, NotFound
from bessemer.core.models import Model
from bessemer.engine.extra import check_installed, installed
from bessemer.engine.rungs.head import HeadKind, Vectors
from bessemer.gateway.providers.engines import Engines
from bessemer.registry.catalog import Catalog
from bessemer.registry.weights import WeightsSettings

if TYPE_CHECKING:
    from bessemer.engine.embedder import Embedder


class Networks:
    """Makes vectors of texts. Used on one event loop."""

    def __init__(
        self,
        catalog: Catalog,
        engines: Engines,
        encoder: Path | None,
        made: Path,
        bring: Callable[[], Path] | None = None,
    ) -> None:
        """`encoder`: folder of the sentence encoder; None, or a folder without one: there is none; `made`: folder of
        what is made of it; `bring`: brings the encoder when a client first asks for vectors.
        """
        self._catalog, self._engines, self._folder, self._made = catalog, engines, encoder, made
        self._bring = bring
        self._encoder: asyncio.Task[Embedder] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bessemer-encoder")

    @property
    def encoder(self) -> Path | None:
        """Folder of the sentence encoder; None where there is none."""
        there = self._folder is not None and self._folder.joinpath("model.safetensors").is_file()
        return self._folder if there else None

    def static_file(self, name: str) -> Path:
        """Return where the static embedding of the encoder of that name is kept, whether or not it is made."""
        return self._made / f"static-{name.rpartition('@')[2]}.safetensors"

    async def name(self, kind: HeadKind) -> str | None:
        """Return what a head fitted now would name; None where there is no such network."""
        if not installed():
            return None
        if kind is HeadKind.ENCODER:
            return (await self._opened()).fingerprint if self.encoder is not None else None
        for model in self._catalog.models():
            if _on_disk(model):
                async with self._engines.use(model) as engine:
                    return f"{model.name}@{engine.version()}"
        return None

    async def vectors(self, kind: HeadKind, name: str, texts: Sequence[str]) -> Vectors:
        """Return a vector for each text, [n, width]. Raises EngineError when the network of that name is not here."""
        check_installed()
        loop = asyncio.get_running_loop()
        if kind is HeadKind.ENCODER:
            encoder = await self._opened()
            _same(name, encoder.fingerprint)
            found = await loop.run_in_executor(self._thread, encoder.embed, list(texts))
            return np.array(found, np.float32).reshape(len(texts), -1)
        try:
            model = self._catalog.model(name.rpartition("@")[0])
        except NotFound as error:
            raise EngineError(f"The head was fitted on {name!r}: {error.message}") from error
        async with self._engines.use(model) as engine:
            _same(name, f"{model.name}@{engine.version()}")
            return await asyncio.to_thread(engine.states, texts)

    async def embedded(self, texts: Sequence[str]) -> tuple[Vectors, list[int]]:
        """Return the encoder's vector of each text, [n, width], and how many tokens each has.

        Raises InvalidRequest for a text that is longer than the encoder reads, StoreError where there is none.
        """
        check_installed()
        if self.encoder is None and self._bring is not None:
            self._folder = await asyncio.to_thread(self._bring)
        encoder, loop = await self._opened(), asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _embedded, encoder, list(texts))

    async def _opened(self) -> "Embedder":
        if self._encoder is None or (self._encoder.done() and self._encoder.exception() is not None):
            self._encoder = asyncio.create_task(asyncio.to_thread(self._read))
        return await asyncio.shield(self._encoder)

    def _read(self) -> "Embedder":
        from bessemer.engine.embedder import Embedder  # brings torch

        if self._folder is None:
            raise EngineError("There is no sentence encoder here: name one by the setting embedding_model.")
        return Embedder(self._folder)


def _embedded(encoder: "Embedder", texts: list[str]) -> tuple[Vectors, list[int]]:
    counts = encoder.count(texts)
    for place, tokens in enumerate(counts):
        if tokens > encoder.max_tokens:
            raise InvalidRequest(
                f"input[{place}] has {tokens} tokens; this encoder reads {encoder.max_tokens}: split the text.",
                param="input",
                code="context_length_exceeded",
            )
    return np.array(encoder.embed(texts), np.float32).reshape(len(texts), -1), counts


def _on_disk(model: Model) -> bool:
    return isinstance(model.settings, WeightsSettings) and Path(model.settings.path).exists()


def _same(wanted: str, here: str) -> None:
    if wanted != here:
        raise EngineError(f"The head was fitted on {wanted!r}, here is {here!r}: fit it again.")
