"""Embeddings of sentences: a BERT encoder (Devlin et al. 2019, arXiv 1810.04805), its last layer averaged over the
tokens and scaled to length 1, as all-MiniLM-L6-v2 does (Reimers and Gurevych 2019, arXiv 1908.10084).

Float32 on the CPU. Texts are cut at 256 tokens, as that model was trained.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from bessemer.core.errors import EngineError

_MAX_TOKENS = 256


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
        self._tokenizer.enable_truncation(min(_MAX_TOKENS, positions))
        self._tokenizer.no_padding()
        self._layers = sum(name.endswith("attention.self.query.weight") for name in self._weights)

    def embed(self, texts: list[str]) -> list[list[float]]:
        """Return one vector of length 1 for each text."""
        with torch.inference_mode():
            return [self._one(self._tokenizer.encode(text).ids) for text in texts]

    def _one(self, ids: list[int]) -> list[float]:
        weights = self._weights
        prefix = "embeddings."
        token_T = torch.tensor(ids)
        x_TH = weights[prefix + "word_embeddings.weight"][token_T]
        x_TH = x_TH + weights[prefix + "position_embeddings.weight"][: len(ids)]
        x_TH = self._norm(x_TH + weights[prefix + "token_type_embeddings.weight"][0], prefix + "LayerNorm")
        for layer in range(self._layers):
            x_TH = self._block(x_TH, f"encoder.layer.{layer}.")
        vector: list[float] = F.normalize(x_TH.mean(dim=0), dim=0).tolist()
        return vector

    def _block(self, x_TH: Tensor, prefix: str) -> Tensor:
        query, key, value = (
            self._linear(x_TH, f"{prefix}attention.self.{name}").unflatten(1, (self._heads, -1)).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        mixed_TH = F.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1)
        output = prefix + "attention.output."
        x_TH = self._norm(x_TH + self._linear(mixed_TH, output + "dense"), output + "LayerNorm")
        inner = F.gelu(self._linear(x_TH, prefix + "intermediate.dense"))
        return self._norm(x_TH + self._linear(inner, prefix + "output.dense"), prefix + "output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[name + ".weight"], self._weights[name + ".bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weights[name + ".weight"], self._weights[name + ".bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self._epsilon)
