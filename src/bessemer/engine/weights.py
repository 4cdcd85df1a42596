"""Model files: a GGUF file or a safetensors folder becomes a frozen `ModelConfig` and fused tensors, nothing more.

What a file means is its family's to say (`families`). Query, key and value projections are stored as one matrix, as are
gate and up, because one wide product is faster than three narrow ones.
"""

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bessemer.core.errors import EngineError
from bessemer.engine import families
from bessemer.engine.family import GgufHeader, ModelConfig, TensorNames
from bessemer.engine.gguf_file import GgufFile


@dataclass(frozen=True)
class LayerWeights:
    """One block. Matrices are [out, in] in the compute type; norms are float32, Gemma's +1 already applied."""

    qkv: Tensor
    o: Tensor
    gate_up: Tensor
    down: Tensor
    attention_norm: Tensor
    ffn_norm: Tensor
    q_norm: Tensor | None
    k_norm: Tensor | None
    post_attention_norm: Tensor | None
    post_ffn_norm: Tensor | None


@dataclass(frozen=True)
class ModelWeights:
    """A whole network: embedding and head [vocab, hidden], blocks, final norm, and the hash of its files."""

    config: ModelConfig
    embedding: Tensor
    head: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    fingerprint: str


def native_dtype() -> torch.dtype:
    """Return the type that this processor multiplies fast: bfloat16 where it has products of it, else float32.

    With AVX2 alone, or AVX-512 without its bfloat16 extension, products of bfloat16 take several times as long as those
    of float32, whose weights take twice the memory.
    """
    cpu = torch.cpu
    has_products = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    if platform.machine() not in {"x86_64", "AMD64"}:
        has_products = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if has_products else torch.float32


def load_weights(path: Path, dtype: torch.dtype | None = None) -> ModelWeights:
    """Load a GGUF file or a folder with config.json and *.safetensors, in `dtype` or this processor's own.

    Raises EngineError when the file is missing, the architecture is unknown or a tensor is absent.
    """
    if path.is_dir():
        return _load_safetensors(path, dtype or native_dtype())
    if path.is_file():
        return _load_gguf(path, dtype or native_dtype())
    raise EngineError(f"model file {path} does not exist: give a GGUF file or a safetensors folder", param="path")


def file_fingerprint(paths: list[Path]) -> str:
    """Return the SHA-256 over the content of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


# -- assembling -------------------------------------------------------------------------------------------------------


def _assemble(
    config: ModelConfig,
    names: TensorNames,
    matrix: Callable[[str], Tensor],
    norm: Callable[[str], Tensor],
    fingerprint: str,
) -> ModelWeights:
    def layer(i: int) -> LayerWeights:
        def optional(name: str, present: bool) -> Tensor | None:  # noqa: FBT001
            return norm(name.format(i)) if present else None

        return LayerWeights(
            qkv=torch.cat([matrix(name.format(i)) for name in (names.q, names.k, names.v)]),
            o=matrix(names.o.format(i)),
            gate_up=torch.cat([matrix(names.gate.format(i)), matrix(names.up.format(i))]),
            down=matrix(names.down.format(i)),
            attention_norm=norm(names.attention_norm.format(i)),
            ffn_norm=norm(names.ffn_norm.format(i)),
            q_norm=optional(names.q_norm, config.qk_norm),
            k_norm=optional(names.k_norm, config.qk_norm),
            post_attention_norm=optional(names.post_attention_norm, config.post_norms),
            post_ffn_norm=optional(names.post_ffn_norm, config.post_norms),
        )

    embedding = matrix(names.embedding)
    return ModelWeights(
        config=config,
        embedding=embedding,
        head=embedding if config.tied else matrix(names.head),
        layers=tuple(layer(i) for i in range(config.n_layers)),
        norm=norm(names.norm),
        fingerprint=fingerprint,
    )


# -- GGUF -------------------------------------------------------------------------------------------------------------


def _unpermute(weight: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's reordering of query and key rows: it interleaves the two halves of each head's rotary pairs."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _load_gguf(path: Path, dtype: torch.dtype) -> ModelWeights:
    file = GgufFile(path)
    family = families.of_gguf(file.fields["general.architecture"])
    config = family.of_gguf(GgufHeader(file.fields, file.names, file.shape(family.gguf_names.embedding)[0]))

    def read(name: str) -> Tensor:
        return torch.from_numpy(file.read(name))

    names = family.gguf_names
    heads = {names.q: config.n_heads, names.k: config.n_kv_heads} if family.gguf_interleaves_heads else {}
    interleaved = {name.format(layer): count for name, count in heads.items() for layer in range(config.n_layers)}

    def matrix(name: str) -> Tensor:
        weight = read(name)
        if name in interleaved:
            weight = _unpermute(weight, interleaved[name])
        return weight.to(dtype)

    return _assemble(config, names, matrix, read, file_fingerprint([path]))


# -- safetensors ------------------------------------------------------------------------------------------------------


def _load_safetensors(folder: Path, dtype: torch.dtype) -> ModelWeights:
    from safetensors.torch import load_file

    config_path = folder / "config.json"
    files = sorted(folder.glob("*.safetensors"))
    if not config_path.is_file() or not files:
        raise EngineError(f"folder {folder} needs config.json and *.safetensors files", param="path")
    raw = json.loads(config_path.read_text())
    family = families.of_hf(raw.get("model_type"))
    config = family.of_hf(raw)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(load_file(file))

    def read(name: str) -> Tensor:
        if name not in tensors:
            raise EngineError(f"folder {folder} lacks tensor '{name}': the files are not a complete model")
        return tensors[name]

    def norm(name: str) -> Tensor:
        weight = read(name).float()
        return weight + family.hf_norm_offset if family.hf_norm_offset else weight

    fingerprint = file_fingerprint([config_path, *files])
    return _assemble(config, family.hf_names, lambda name: read(name).to(dtype), norm, fingerprint)
