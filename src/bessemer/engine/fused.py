"""What stands between a block's matrix products, differentiable: norms, rotary positions, gates.

Each is one pass over memory in the compiled kernels of fused.c, or torch operations where there is no compiler or the
tensors are not on the CPU. Norm weights are float32 and frozen.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.engine.kernel import compiled_library

Activation = Literal["silu", "gelu_tanh"]
_Native = Callable[..., None]


def add_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return (x + delta, norm(x + delta)); norm(x) = weight * x / sqrt(mean(x^2) + eps) over the last dimension."""
    if delta is None:
        return x, norm(x, weight, eps)
    total, normed = _AddNorm.apply(x, delta, weight, eps)  # type: ignore[no-untyped-call]
    return total, normed


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return weight * x / sqrt(mean(x^2) + eps) over the last dimension (arXiv 1910.07467)."""
    result: Tensor = _Norm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return result


def rotate(x_THD: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn pairs (i, i + D/2) of each head by the angles whose cosines and sines are given, [T, 1, D/2]."""
    result: Tensor = _Rotate.apply(x_THD, cosine, sine)  # type: ignore[no-untyped-call]
    return result


def gate(gate_up: Tensor, activation: Activation) -> Tensor:
    """Return activation(gate) * up of a fused [T, 2 * intermediate]."""
    result: Tensor = _Gate.apply(gate_up, activation)  # type: ignore[no-untyped-call]
    return result


# -- compiled kernels -------------------------------------------------------------------------------------------------

_P, _I, _F = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_SIGNATURES: dict[str, list[Any]] = {
    "add_norm": [_P, _P, _P, _P, _P, _P, _I, _I, _F, _I],
    "add_norm_backward": [_P, _P, _P, _P, _P, _P, _I, _I, _I],
    "rotate": [_P, _P, _P, _P, _I, _I, _I, _I, _F, _I],
    "gate": [_P, _P, _I, _I, _I, _I],
    "gate_backward": [_P, _P, _P, _I, _I, _I, _I],
}


@cache
def _library(dtype: torch.dtype) -> dict[str, _Native] | None:
    if dtype not in (torch.bfloat16, torch.float32):
        return None
    path = compiled_library(Path(__file__).with_name("fused.c"), ["-DSTORED_BF16"] if dtype is torch.bfloat16 else [])
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    functions: dict[str, _Native] = {}
    for name, signature in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = signature, None
        functions[name] = function
    return functions


def _native(name: str, x: Tensor) -> _Native | None:
    library = _library(x.dtype) if x.device.type == "cpu" else None
    return None if library is None else library[name]


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


# -- norms ------------------------------------------------------------------------------------------------------------


def _norm_forward(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return (total, normed, 1 / root mean square [..., 1])."""
    native = _native("add_norm", x)
    if native is None:
        total = x if delta is None else x + delta
        squares: Tensor = torch.linalg.vector_norm(total, dim=-1, keepdim=True, dtype=torch.float32).square_()
        inverse = squares.div_(x.shape[-1]).add_(eps).rsqrt_()
        return total, (total * inverse).mul_(weight).to(x.dtype), inverse
    x = x.contiguous()
    delta = None if delta is None else delta.contiguous()
    total = x if delta is None else torch.empty_like(x)
    normed, inverse = torch.empty_like(x), torch.empty(*x.shape[:-1], 1)
    native(
        x.data_ptr(),
        _pointer(delta),
        weight.data_ptr(),
        total.data_ptr(),
        normed.data_ptr(),
        inverse.data_ptr(),
        inverse.numel(),
        x.shape[-1],
        eps,
        torch.get_num_threads(),
    )
    return total, normed, inverse


def _norm_backward(d_total: Tensor | None, d_normed: Tensor, total: Tensor, inverse: Tensor, weight: Tensor) -> Tensor:
    native = _native("add_norm_backward", total)
    if native is None:
        unit = total * inverse
        scaled = d_normed * weight
        mean = (scaled * unit).mean(dim=-1, keepdim=True)
        dx = scaled.addcmul_(unit, mean, value=-1.0).mul_(inverse)
        return (dx if d_total is None else dx.add_(d_total)).to(total.dtype)
    d_normed = d_normed.contiguous()
    d_total = None if d_total is None else d_total.contiguous()
    out = torch.empty_like(total)
    native(
        _pointer(d_total),
        d_normed.data_ptr(),
        total.data_ptr(),
        inverse.data_ptr(),
        weight.data_ptr(),
        out.data_ptr(),
        inverse.numel(),
        total.shape[-1],
        torch.get_num_threads(),
    )
    return out


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        total, normed, inverse = _norm_forward(x, None, weight, eps)
        ctx.save_for_backward(total, inverse, weight)
        return normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _norm_backward(None, grads[0], *ctx.saved_tensors), None, None


class _AddNorm(torch.autograd.Function):
    """One node instead of two, and one rounding of the summed gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        total, normed, inverse = _norm_forward(x, delta, weight, eps)
        ctx.save_for_backward(total, inverse, weight)
        return total, normed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dx = _norm_backward(grads[0], grads[1], *ctx.saved_tensors)
        return dx, dx, None, None


# -- rotary positions -------------------------------------------------------------------------------------------------


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_THD: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.cosine, ctx.sine = cosine, sine
        return _rotated(x_THD, cosine, sine, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _rotated(grads[0], ctx.cosine, ctx.sine, -1.0), None, None


def _rotated(x_THD: Tensor, cosine: Tensor, sine: Tensor, direction: float) -> Tensor:
    rows, heads, width = x_THD.shape
    out = torch.empty(x_THD.shape, dtype=x_THD.dtype, device=x_THD.device)
    native = _native("rotate", x_THD)
    if native is None:
        first, second = x_THD.chunk(2, dim=-1)
        out_first, out_second = out.chunk(2, dim=-1)
        torch.mul(first, cosine, out=out_first).addcmul_(second, sine, value=-direction)
        torch.mul(second, cosine, out=out_second).addcmul_(first, sine, value=direction)
        return out
    if x_THD.stride()[1:] != (width, 1):
        x_THD = x_THD.contiguous()
    native(
        x_THD.data_ptr(),
        cosine.data_ptr(),
        sine.data_ptr(),
        out.data_ptr(),
        rows,
        heads,
        width,
        x_THD.stride(0),
        direction,
        torch.get_num_threads(),
    )
    return out


# -- gates ------------------------------------------------------------------------------------------------------------


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor, activation: Activation) -> Tensor:
        ctx.save_for_backward(gate_up)
        ctx.activation = activation
        native = _native("gate", gate_up)
        if native is None:
            gated, up = gate_up.chunk(2, dim=-1)
            return _activate(gated, activation).mul_(up)
        width = gate_up.shape[1] // 2
        out = gate_up.new_empty(len(gate_up), width)
        native(
            gate_up.data_ptr(),
            out.data_ptr(),
            len(gate_up),
            width,
            int(activation == "gelu_tanh"),
            torch.get_num_threads(),
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (gate_up,) = ctx.saved_tensors
        out = torch.empty_like(gate_up)
        native = _native("gate_backward", gate_up)
        if native is None:
            gated, up = gate_up.chunk(2, dim=-1)
            d_gate, d_up = out.chunk(2, dim=-1)
            torch.mul(grads[0], _activate(gated, ctx.activation), out=d_up)
            d_gate.copy_(_activation_backward(grads[0] * up, gated, ctx.activation))
            return out, None
        dy = grads[0].contiguous()
        native(
            gate_up.data_ptr(),
            dy.data_ptr(),
            out.data_ptr(),
            len(gate_up),
            gate_up.shape[1] // 2,
            int(ctx.activation == "gelu_tanh"),
            torch.get_num_threads(),
        )
        return out, None


def _activate(x: Tensor, activation: Activation) -> Tensor:
    return F.silu(x) if activation == "silu" else F.gelu(x, approximate="tanh")


def _activation_backward(dy: Tensor, x: Tensor, activation: Activation) -> Tensor:
    result: Tensor = (
        torch.ops.aten.silu_backward(dy, x)
        if activation == "silu"
        else torch.ops.aten.gelu_backward(dy, x, approximate="tanh")
    )
    return result
