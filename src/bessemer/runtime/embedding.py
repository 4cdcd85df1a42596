"""What `text_similarity` with `cosine` compares by: the operator's sentence encoder, else all-MiniLM-L6-v2.

The latter is brought into the data folder, and checked by hash, when a grader first asks for it; nothing is fetched
before, and nothing where the operator does not want it.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from bessemer.core.errors import ConfigError, StoreError
from bessemer.core.settings import Settings
from bessemer.engine.extra import check_installed
from bessemer.evals.grader import Embed
from bessemer.registry import weights

if TYPE_CHECKING:
    from bessemer.engine.embedder import Embedder

FOLDER = "all-MiniLM-L6-v2"
log = structlog.get_logger("bessemer.embedding")


def embed_by(settings: Settings) -> Embed:
    """Return what makes vectors of texts: the encoder is loaded for the first of them, in a thread of its own.

    Raises ConfigError when the folder that the setting names holds no model. What it returns raises StoreError as long
    as there is no model and none can be fetched.
    """
    named = settings.embedding_model
    if named is not None and not named.joinpath("model.safetensors").is_file():
        raise ConfigError(f"embedding_model {str(named)!r} holds no model.safetensors.", param="embedding_model")
    thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")

    @cache
    def embedder() -> "Embedder":
        check_installed()
        from bessemer.engine.embedder import Embedder

        return Embedder(named or brought(settings))

    async def embed(texts: list[str]) -> list[list[float]]:
        return await asyncio.get_running_loop().run_in_executor(thread, lambda: embedder().embed(texts))

    return embed


def brought(settings: Settings) -> Path:
    """Return the folder of all-MiniLM-L6-v2, which is brought there where it is not. Raises StoreError."""
    folder = settings.models_dir / FOLDER
    missing = not all(folder.joinpath(one.filename).is_file() for one in weights.MINILM)
    try:
        if missing and not settings.fetch_weights:
            raise StoreError(f"it is not in {str(folder)!r}, and fetch_weights is false.")
        return weights.ensure_all(weights.MINILM, folder, lambda text: log.info("weights", progress=text))
    except StoreError as error:
        raise StoreError(
            f"The embedding model {FOLDER} is needed, which cannot be had: {error.message} With the setting "
            "embedding_model a folder that holds one (config.json, model.safetensors, tokenizer.json) is taken instead."
        ) from error
