"""Where answers come from: the built-in engine, OpenAI-compatible servers, recorded answers."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bessemer.core.types import ProviderKind
from bessemer.gateway.providers.base import Provider
from bessemer.gateway.providers.local import LocalProvider
from bessemer.gateway.providers.openai import OpenAIProvider
from bessemer.gateway.providers.recorded import RecordedProvider
from bessemer.registry.catalog import Catalog
from bessemer.store.blobs import Blobs

if TYPE_CHECKING:
    from bessemer.engine.engine import Engine


def build_providers(
    catalog: Catalog,
    blobs: Blobs,
    data: Path,
    environ: Mapping[str, str],
    open_engine: "Callable[[Path], Engine]",
) -> dict[ProviderKind, Provider]:
    """Make one provider of each kind. `open_engine` makes an engine for a model path.

    Adapters are unpacked in the data folder; the recorded provider counts tokens with a local model's tokenizer.
    """
    local = LocalProvider(blobs, data / "adapters", open_engine)

    async def count_tokens(tokenizer: str, text: str) -> int:
        engine = await local.engine(catalog.model(tokenizer))
        return len(await asyncio.to_thread(engine.tokenizer.encode, text))

    return {
        ProviderKind.LOCAL: local,
        ProviderKind.OPENAI: OpenAIProvider(environ),
        ProviderKind.RECORDED: RecordedProvider(count_tokens),
    }
