"""Embeddings of sentences: a BERT encoder (Devlin et al. 2019, arXiv 1810.04805), its last layer averaged over the
tokens and scaled to length 1, as all-MiniLM-L6-v2 does (Reimers and Gurevych 2019, arXiv 1908.10084).

Float32 on the CPU. Texts are cut at 256 tokens, as that model was trained.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from bessemer.core.errors import EngineError

_MAX_TOKENS = 256
_BATCH_TOKENS = 1024
"""Tokens of texts of one length that pass the encoder together."""


class Embedder:
    """An encoder and its tokenizer, read from a folder: config.json, model.safetensors, tokenizer.json."""

    def __init__(self, folder: Path) -> None:
        """Raises EngineError when the files are not there or are no such model's."""
        try:
            config = json.loads((folder / "config.json").read_text())
            self._heads, self._epsilon = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
            self._weights = load_file(folder / "model.safetensors")
            positions = len(self._weights["embeddings.position_embeddings.weight"])
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers and safetensors raise Exception itself
            raise EngineError(f"The embedding model in {str(folder)!r} cannot be read: {error}") from error
        self.max_tokens = min(_MAX_TOKENS, positions)
        """Of a text: what follows is cut."""
        self._whole: Tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        self._whole.no_truncation()
        self._whole.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._tokenizer.no_padding()
        self._layers = sum(name.endswith("attention.self.query.weight") for name in self._weights)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, also beyond `max_tokens`."""
        return [len(one.ids) for one in self._whole.encode_batch(list(texts))]

    def embed(self, texts: list[str]) -> list[list[float]]:
        """Return one vector of length 1 for each text."""
        vectors: list[list[float]] = [[]] * len(texts)
        by_length: dict[int, list[int]] = {}
        encoded = [one.ids for one in self._tokenizer.encode_batch(texts)]
        for place, ids in enumerate(encoded):
            by_length.setdefault(len(ids), []).append(place)
        with torch.inference_mode():
            for length, places in by_length.items():
                step = max(1, _BATCH_TOKENS // length)
                for at in range(0, len(places), step):
                    part = places[at : at + step]
                    found = self._vectors(torch.tensor([encoded[place] for place in part])).tolist()
                    for place, vector in zip(part, found, strict=True):
                        vectors[place] = vector
        return vectors

    @cached_property
    def fingerprint(self) -> str:
        """Names the encoder and its weights."""
        digest = hashlib.sha256()
        for name, weight in sorted(self._weights.items()):
            digest.update(name.encode() + weight.contiguous().view(torch.uint8).numpy().tobytes())
        return f"encoder@{digest.hexdigest()[:12]}"

    def token_vectors(self, batch: int = 512) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Return the tokens of the vocabulary, and for each the vector of a text that holds it alone: [tokens, width].

        What a static embedding is distilled from: every token passes the encoder once, between the marks of a text.
        """
        size = self._tokenizer.get_vocab_size()
        tokens = [self._tokenizer.id_to_token(id_) or "" for id_ in range(size)]
        first, *_, last = self._tokenizer.encode("a").ids
        with torch.inference_mode():
            parts = [
                self._vectors(torch.tensor([[first, id_, last] for id_ in range(begin, min(begin + batch, size))]))
                for begin in range(0, size, batch)
            ]
        return tokens, torch.cat(parts).numpy()

    def _vectors(self, token_T: Tensor) -> Tensor:
        """Return the vector of a text's tokens, [T], or of several texts of one length, [B, T]."""
        weights = self._weights
        prefix = "embeddings."
        x_TH = weights[prefix + "word_embeddings.weight"][token_T]
        x_TH = x_TH + weights[prefix + "position_embeddings.weight"][: token_T.shape[-1]]
        x_TH = self._norm(x_TH + weights[prefix + "token_type_embeddings.weight"][0], prefix + "LayerNorm")
        for layer in range(self._layers):
            x_TH = self._block(x_TH, f"encoder.layer.{layer}.")
        return F.normalize(x_TH.mean(dim=-2), dim=-1)

    def _block(self, x_TH: Tensor, prefix: str) -> Tensor:
        query, key, value = (
            self._linear(x_TH, f"{prefix}attention.self.{name}").unflatten(-1, (self._heads, -1)).transpose(-3, -2)
            for name in ("query", "key", "value")
        )
        mixed_TH = F.scaled_dot_product_attention(query, key, value).transpose(-3, -2).flatten(-2)
        output = prefix + "attention.output."
        x_TH = self._norm(x_TH + self._linear(mixed_TH, output + "dense"), output + "LayerNorm")
        inner = F.gelu(self._linear(x_TH, prefix + "intermediate.dense"))
        return self._norm(x_TH + self._linear(inner, prefix + "output.dense"), prefix + "output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[name + ".weight"], self._weights[name + ".bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[name + ".weight"], self._weights[name + ".bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self._epsilon)
