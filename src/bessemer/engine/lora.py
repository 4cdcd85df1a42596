"""LoRA adapters on all linear layers, in peft's file format: y = W x + (alpha / rank) B A x (arXiv 2106.09685).

All parameters of an adapter live in one float32 vector, and so do their gradients: the optimizer, the gradient norm
and a checkpoint each see one tensor. A fused projection (query, key, value; gate, up) keeps one A and one B per
original projection, so that peft loads what is saved here; their products are computed together.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.core.errors import EngineError
from bessemer.engine.family import ModelConfig

Site = Literal["qkv", "o", "gate_up", "down"]
SITES: tuple[Site, ...] = ("qkv", "o", "gate_up", "down")
_PEFT_NAMES: dict[Site, tuple[str, ...]] = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "o": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


class LoraConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Size of an adapter. Layers below `first_layer` stay without one (peft's `layers_to_transform`)."""

    rank: int = 16
    alpha: float = 32.0
    first_layer: int = 0

    @property
    def scale(self) -> float:
        """Factor on B A x."""
        return self.alpha / self.rank


class SiteShape(NamedTuple):
    """Input width of a fused projection and the output widths of its parts."""

    width: int
    parts: tuple[int, ...]


def site_shape(config: ModelConfig, site: Site) -> SiteShape:
    """Return the widths of one fused projection of a model."""
    match site:
        case "qkv":
            return SiteShape(config.hidden, config.qkv_sizes)
        case "o":
            return SiteShape(config.qkv_sizes[0], (config.hidden,))
        case "gate_up":
            return SiteShape(config.hidden, (config.intermediate, config.intermediate))
        case "down":
            return SiteShape(config.intermediate, (config.hidden,))


@dataclass
class SiteParameters:
    """One fused projection's share of the adapter; with n parts of rank r:

    a [n*r, in] and b [out, r] are views of the float32 vector (b's rows are the parts below each other);
    a_grad and b_grad are views of the gradient vector; compute_a [n*r, in] and compute_b [out, n*r] (scaled,
    block-diagonal) are what the forward pass multiplies by.
    """

    a: Tensor
    b: Tensor
    a_grad: Tensor | None
    b_grad: Tensor | None
    parts: tuple[int, ...]
    scale: float
    compute_a: Tensor
    compute_b: Tensor

    def refresh(self) -> None:
        """Recompute the compute copies from the float32 parameters."""
        rank = self.b.shape[1]
        self.compute_a.copy_(self.a)
        row = 0
        for part, size in enumerate(self.parts):
            block = self.compute_b[row : row + size, part * rank : (part + 1) * rank]
            block.copy_(self.b[row : row + size] * self.scale)
            row += size

    def accumulate(self, a_grad: Tensor, b_grad: Tensor) -> None:
        """Add gradients of compute_a [n*r, in] and of compute_b [out, n*r] to those of the float32 parameters."""
        assert self.a_grad is not None and self.b_grad is not None
        rank = self.b.shape[1]
        self.a_grad.add_(a_grad)
        row = 0
        for part, size in enumerate(self.parts):
            block = b_grad[row : row + size, part * rank : (part + 1) * rank]
            self.b_grad[row : row + size].add_(block, alpha=self.scale)
            row += size


class Adapter:
    """A LoRA adapter of one model. `version` counts the updates since it was made or loaded."""

    def __init__(self, model: ModelConfig, config: LoraConfig, dtype: torch.dtype) -> None:
        if not 0 <= config.first_layer < model.n_layers:
            raise EngineError(f"first_layer {config.first_layer} is outside the model's {model.n_layers} layers")
        self.model = model
        self.config = config
        self.dtype = dtype
        self.version = 0
        self.flat = torch.zeros(parameter_count(model, config))
        self.grad: Tensor | None = None
        self.sites: dict[tuple[int, Site], SiteParameters] = {}
        self._lay_out()

    @property
    def trainable(self) -> bool:
        """Whether gradients are collected."""
        return self.grad is not None

    def site(self, layer: int, site: Site) -> SiteParameters | None:
        """Return the parameters of one projection, None where the adapter has none."""
        return self.sites.get((layer, site))

    def initialise(self, seed: int) -> None:
        """Draw A uniformly within ±1/sqrt(in) and set B to zero, so the adapter changes nothing yet (peft's start)."""
        generator = torch.Generator().manual_seed(seed)
        for parameters in self.sites.values():
            bound = parameters.a.shape[1] ** -0.5
            parameters.a.uniform_(-bound, bound, generator=generator)
            parameters.b.zero_()
        self.changed()

    def require_gradients(self) -> None:
        """Make the gradient vector; from now on backward passes add to it."""
        self.grad = torch.zeros_like(self.flat)
        self._lay_out()

    def changed(self) -> None:
        """Tell the adapter that `flat` was written: compute copies are refreshed and the version rises."""
        for parameters in self.sites.values():
            parameters.refresh()
        self.version += 1

    def fingerprint(self) -> str:
        """Return the SHA-256 of the parameters."""
        return hashlib.sha256(self.flat.numpy().tobytes()).hexdigest()

    def _lay_out(self) -> None:
        offset = 0

        def take(rows: int, columns: int) -> tuple[Tensor, Tensor | None]:
            nonlocal offset
            span = slice(offset, offset + rows * columns)
            offset += rows * columns
            grad = None if self.grad is None else self.grad[span].view(rows, columns)
            return self.flat[span].view(rows, columns), grad

        rank = self.config.rank
        for layer in range(self.config.first_layer, self.model.n_layers):
            for site in SITES:
                width, parts = site_shape(self.model, site)
                a, a_grad = take(len(parts) * rank, width)
                b, b_grad = take(sum(parts), rank)
                parameters = SiteParameters(
                    a=a,
                    b=b,
                    a_grad=a_grad,
                    b_grad=b_grad,
                    parts=parts,
                    scale=self.config.scale,
                    compute_a=torch.zeros(a.shape, dtype=self.dtype),
                    compute_b=torch.zeros(b.shape[0], len(parts) * rank, dtype=self.dtype),
                )
                parameters.refresh()
                self.sites[layer, site] = parameters

    # -- files --------------------------------------------------------------------------------------------------------

    def save(self, folder: Path, base_name: str) -> None:
        """Write peft's adapter_config.json and adapter_model.safetensors into a folder (made if absent)."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        layers = list(range(self.config.first_layer, self.model.n_layers))
        description = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": sorted(name.split(".")[1] for names in _PEFT_NAMES.values() for name in names),
            "layers_to_transform": layers if self.config.first_layer else None,
        }
        (folder / "adapter_config.json").write_text(json.dumps(description, indent=2) + "\n")
        save_file(dict(self._named()), folder / "adapter_model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, folder: Path, model: ModelConfig, dtype: torch.dtype) -> "Adapter":
        """Read a peft LoRA folder. Raises EngineError when it is missing or does not fit the model."""
        from safetensors.torch import load_file

        try:
            raw: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
            tensors = load_file(folder / "adapter_model.safetensors")
        except FileNotFoundError as error:
            raise EngineError(f"adapter folder {folder} lacks {Path(error.filename).name}", param="adapter") from error
        adapter = cls(model, _lora_config(raw), dtype)
        for name, target in adapter._named():
            tensor = tensors.get(name)
            if tensor is None or tensor.shape != target.shape:
                raise EngineError(
                    f"adapter {folder} does not fit the model: tensor '{name}' is missing or of other shape"
                )
            target.copy_(tensor)
        adapter.changed()
        return adapter

    def _named(self) -> list[tuple[str, Tensor]]:
        rank = self.config.rank
        named: list[tuple[str, Tensor]] = []
        for (layer, site), parameters in self.sites.items():
            row = 0
            for part, name in enumerate(_PEFT_NAMES[site]):
                prefix = f"base_model.model.model.layers.{layer}.{name}."
                size = parameters.parts[part]
                named.append((prefix + "lora_A.weight", parameters.a[part * rank : (part + 1) * rank]))
                named.append((prefix + "lora_B.weight", parameters.b[row : row + size]))
                row += size
        return named


def _lora_config(raw: dict[str, Any]) -> LoraConfig:
    wanted = {name.split(".")[1] for names in _PEFT_NAMES.values() for name in names}
    unsupported = [key for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern") if raw.get(key)]
    if raw.get("peft_type") != "LORA" or unsupported or set(raw["target_modules"]) != wanted:
        raise EngineError(
            "adapter_config.json: only plain LoRA on all seven linear layers is supported", param="adapter"
        )
    layers = raw.get("layers_to_transform")
    return LoraConfig(rank=raw["r"], alpha=float(raw["lora_alpha"]), first_layer=min(layers) if layers else 0)


def parameter_count(model: ModelConfig, config: LoraConfig) -> int:
    """Return the number of parameters of an adapter."""
    per_layer = 0
    for site in SITES:
        width, parts = site_shape(model, site)
        per_layer += config.rank * (len(parts) * width + sum(parts))
    return per_layer * (model.n_layers - config.first_layer)


class LoraLinear(torch.autograd.Function):
    """Frozen linear layer plus adapter. The base gets no gradient; the adapter's is added to its gradient vector."""

    @staticmethod
    def forward(ctx: Any, x_TI: Tensor, weight_OI: Tensor, parameters: SiteParameters) -> Tensor:
        hidden_TR = F.linear(x_TI, parameters.compute_a)
        ctx.save_for_backward(x_TI, hidden_TR)
        ctx.weight, ctx.parameters = weight_OI, parameters
        return F.linear(x_TI, weight_OI).addmm_(hidden_TR, parameters.compute_b.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (dy_TO,) = grads
        x_TI, hidden_TR = ctx.saved_tensors
        parameters: SiteParameters = ctx.parameters
        dhidden_TR = dy_TO @ parameters.compute_b
        parameters.accumulate(dhidden_TR.t() @ x_TI, dy_TO.t() @ hidden_TR)
        dx_TI = (dy_TO @ ctx.weight).addmm_(dhidden_TR, parameters.compute_a)
        return dx_TI, None, None
