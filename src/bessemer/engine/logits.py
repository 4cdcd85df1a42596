"""Logits in float32: one fast product in the weights' type, then the likely tokens again without its rounding.

A bfloat16 product rounds a logit of 25 to a multiple of 1/8: greedy choices flip near ties, probabilities are coarse.
Tokens far below a row's best keep the rounded value; their small errors average out of the normaliser. N rows, H hidden
width, V vocabulary, P (row, token) pairs.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.engine.kernel import compiled_library

MARGIN = 8.0
"""Nats below the best logit: beyond, a token is 3,000 times less likely than the best."""
_GATHERED = 1 << 22
"""Elements of head rows gathered at once without the compiled kernel."""


def float32_logits(hidden_NH: Tensor, head_VH: Tensor) -> Tensor:
    """Return logits [N, V] in float32, exact to float32 within MARGIN of each row's best. Not differentiable."""
    logits_NV = F.linear(hidden_NH, head_VH).float()
    if head_VH.dtype is not torch.bfloat16:
        return logits_NV
    kernel = _kernel() if logits_NV.device.type == "cpu" else None
    if kernel is None:
        rows, tokens = (logits_NV > logits_NV.amax(dim=-1, keepdim=True) - MARGIN).nonzero(as_tuple=True)
        logits_NV[rows, tokens] = exact_logits(hidden_NH, head_VH, rows, tokens)
        return logits_NV
    hidden_NH, head_VH = hidden_NH.contiguous(), head_VH.contiguous()
    kernel(
        hidden_NH.data_ptr(),
        head_VH.data_ptr(),
        logits_NV.data_ptr(),
        *hidden_NH.shape,
        head_VH.shape[0],
        MARGIN,
        torch.get_num_threads(),
    )
    return logits_NV


def exact_logits(hidden_NH: Tensor, head_VH: Tensor, row_P: Tensor, token_P: Tensor) -> Tensor:
    """Return the float32 logits [P] of (row, token) pairs."""
    parts = max(1, _GATHERED // head_VH.shape[1])
    products = [
        (hidden_NH[rows].float() * head_VH[tokens].float()).sum(dim=-1)
        for rows, tokens in zip(row_P.split(parts), token_P.split(parts), strict=True)
    ]
    return torch.cat(products) if products else torch.zeros(0, device=hidden_NH.device)


@cache
def _kernel() -> Callable[..., None] | None:
    library = compiled_library(Path(__file__).with_name("logits.c"), [])
    if library is None:
        return None
    function = ctypes.CDLL(str(library)).refine
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, pointer, pointer, size, size, size, ctypes.c_float, size]
    function.restype = None
    kernel: Callable[..., None] = function
    return kernel
