"""Where answers come from: each provider is a file with its settings, what it can do, and a line in `PROVIDERS`."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bessemer.core.models import ProviderSettings
from bessemer.gateway.providers.base import Provider, ProviderContext, ProviderKind
from bessemer.gateway.providers.encoder import ENCODER
from bessemer.gateway.providers.engines import Engines
from bessemer.gateway.providers.local import LOCAL
from bessemer.gateway.providers.networks import Networks
from bessemer.gateway.providers.openai import OPENAI
from bessemer.gateway.providers.recorded import RECORDED
from bessemer.gateway.providers.rungs import RUNGS
from bessemer.registry.catalog import Catalog
from bessemer.store.blobs import BlobStore

if TYPE_CHECKING:
    from bessemer.engine.engine import Engine

PROVIDERS: Final[tuple[ProviderKind, ...]] = (LOCAL, OPENAI, ENCODER, RECORDED, RUNGS)
_ADAPTER_MEMORY = 1 << 30
"""Bytes of adapters in each engine; one of rank 32 for a model of 135M parameters takes 39 MB."""


def settings_of(kinds: Sequence[ProviderKind]) -> dict[str, type[ProviderSettings]]:
    """Return what the configuration file may say of each kind's models, by the kind's name."""
    return {kind.name: kind.settings for kind in kinds}


SETTINGS: Final = settings_of(PROVIDERS)


def build_providers(kinds: Sequence[ProviderKind], context: ProviderContext) -> dict[str, Provider]:
    """Make one provider of each kind, by its name."""
    return {kind.name: kind.open(context) for kind in kinds}


def provider_context(
    catalog: Catalog,
    blobs: BlobStore,
    data: Path,
    environ: Mapping[str, str],
    open_engine: "Callable[[Path], Engine]",
    *,
    encoder: Path | None = None,
    bring_encoder: Callable[[], Path] | None = None,
    engine_memory: int | None = None,
    engine_idle_s: float | None = None,
) -> ProviderContext:
    """Return what providers are made of. `open_engine` makes an engine for a model path.

    `encoder`: folder of a sentence encoder; `bring_encoder`: brings it when vectors are first asked for.
    `engine_memory`: bytes that engines may keep while nobody uses them, half of the machine's by default;
    `engine_idle_s`: they go after so long a rest in any case. Adapters are unpacked in the data folder.
    """
    engines = Engines(
        blobs,
        data / "adapters",
        open_engine,
        memory=engine_memory or _half_of_the_machine(),
        adapter_memory=_ADAPTER_MEMORY,
        idle_s=engine_idle_s,
    )

    async def count_tokens(tokenizer: str, text: str) -> int:
        async with engines.use(catalog.model(tokenizer)) as engine:
            return len(await asyncio.to_thread(engine.tokenizer.encode, text))

    return ProviderContext(
        environ, engines, blobs, Networks(catalog, engines, encoder, data / "embeddings", bring_encoder), count_tokens
    )


def _half_of_the_machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
