"""Where answers come from: the built-in engine, OpenAI-compatible servers, recorded answers."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bessemer.core.types import ProviderKind
from bessemer.gateway.providers.base import Provider
from bessemer.gateway.providers.engines import Engines
from bessemer.gateway.providers.local import LocalProvider
from bessemer.gateway.providers.openai import OpenAIProvider
from bessemer.gateway.providers.recorded import RecordedProvider
from bessemer.registry.catalog import Catalog
from bessemer.store.blobs import Blobs

if TYPE_CHECKING:
    from bessemer.engine.engine import Engine

_ADAPTER_MEMORY = 1 << 30
"""Bytes of adapters in each engine; one of rank 32 for a model of 135M parameters takes 39 MB."""


def build_providers(
    catalog: Catalog,
    blobs: Blobs,
    data: Path,
    environ: Mapping[str, str],
    open_engine: "Callable[[Path], Engine]",
    *,
    engine_memory: int | None = None,
    engine_idle_s: float | None = None,
) -> dict[ProviderKind, Provider]:
    """Make one provider of each kind. `open_engine` makes an engine for a model path.

    `engine_memory`: bytes that engines may keep while nobody uses them, half of the machine's by default;
    `engine_idle_s`: they go after so long a rest in any case. Adapters are unpacked in the data folder; the recorded
    provider counts tokens with a local model's tokenizer.
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

    return {
        ProviderKind.LOCAL: LocalProvider(engines),
        ProviderKind.OPENAI: OpenAIProvider(environ),
        ProviderKind.RECORDED: RecordedProvider(count_tokens),
    }


def _half_of_the_machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
