"""Makes a static embedding of a sentence encoder: every token passes it once, nothing is downloaded.

The vectors are rotated to their principal components, the first 256 are kept, and each is weighed by ln(1 + rank) of
its token, which stands for its frequency by Zipf's law: vocabularies are sorted by it. This is the recipe of model2vec.
"""

from pathlib import Path

import numpy as np

from bessemer.core.errors import EngineError
from bessemer.engine.rungs.artefact import Arrays, decode_arrays, encode_arrays
from bessemer.engine.rungs.embedding import StaticEmbedding

_WIDTH = 256


def distil(folder: Path, *, width: int = _WIDTH) -> StaticEmbedding:
    """Return the static embedding of the encoder in `folder` (config.json, model.safetensors, tokenizer.json).

    Takes about a minute on one core. Raises EngineError when there is no encoder.
    """
    from bessemer.engine.embedder import Embedder

    tokens, vectors = Embedder(folder).token_vectors()
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :width]
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    weights = np.log1p(np.arange(len(tokens)) + 1.0)
    return StaticEmbedding(tokens, (centred @ axes * weights[:, None] / weights.mean()).astype(np.float16))


def kept(encoder: Path, file: Path) -> StaticEmbedding:
    """Return the embedding kept in `file`, distilled from the encoder when it is not there. Raises EngineError."""
    if not file.exists():
        made = distil(encoder)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_arrays(made.arrays()))
        return made
    try:
        arrays = Arrays(decode_arrays(file.read_bytes()))
    except OSError as error:
        raise EngineError(f"{str(file)!r} cannot be read: {error}.") from error
    return StaticEmbedding.of(arrays)
