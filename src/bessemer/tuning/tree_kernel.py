"""The compiled attention of packed trees (tree_attention.c) as a differentiable operation."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bessemer.core.errors import TuningError
from bessemer.engine.family import ModelConfig
from bessemer.engine.kernel import compiled_library


class TreeLayout(NamedTuple):
    """Trees over packed rows: rows [0, root) are common; tree n owns [start_N[n], start_N[n] + size_N[n])."""

    root: int
    start_N: Tensor
    size_N: Tensor
    mask_NLS: Tensor
    """Additive, float32: [trees, longest tree, root + longest tree]."""
    scale: float


class _Job(ctypes.Structure):
    """Arguments of the kernel in the order of `Job` in tree_attention.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "out", "normaliser", "d_out", "dq", "dk", "dv")),
        *((name, ctypes.c_void_p) for name in ("root_dk", "root_dv", "mask", "starts", "sizes")),
        *((name, ctypes.c_int64) for name in ("trees", "root", "width", "kv_heads", "q_stride", "v_stride", "threads")),
        ("scale", ctypes.c_float),
    )


class TreeKernel(NamedTuple):
    """The library's two functions."""

    forward: Any
    backward: Any


def tree_kernel(config: ModelConfig, dtype: torch.dtype) -> TreeKernel | None:
    """Return the kernel for a model's head shape and storage type; None without a C compiler."""
    return _compiled(config.head_dim, config.n_heads // config.n_kv_heads, dtype)


@cache
def _compiled(head_dim: int, group: int, dtype: torch.dtype) -> TreeKernel | None:
    if dtype not in (torch.bfloat16, torch.float32):
        return None
    defines = [f"-DHEAD_DIM={head_dim}", f"-DGROUP={group}"]
    if dtype is torch.bfloat16:
        defines.append("-DSTORED_BF16")
    path = compiled_library(Path(__file__).with_name("tree_attention.c"), defines)
    if path is None:
        return None
    library = ctypes.CDLL(str(path))
    functions = (library.tree_forward, library.tree_backward)
    for function in functions:
        function.argtypes, function.restype = [ctypes.POINTER(_Job)], ctypes.c_int
    return TreeKernel(*functions)


class CompiledTreeAttend(torch.autograd.Function):
    """softmax(scale q k^T + mask) v over several layouts that together cover all rows."""

    @staticmethod
    def forward(
        ctx: Any, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, kernel: TreeKernel, layouts: Sequence[TreeLayout]
    ) -> Tensor:
        """See the class."""
        q_THD, v_TKD = _with_dense_heads(q_THD), _with_dense_heads(v_TKD)
        k_TKD = k_TKD.contiguous()
        out = torch.empty(q_THD.shape, dtype=q_THD.dtype)
        normaliser = torch.empty(q_THD.shape[:2])
        for layout in layouts:
            job = _job(q_THD, k_TKD, v_TKD, layout)
            job.out, job.normaliser = out.data_ptr(), normaliser.data_ptr()
            _call(kernel.forward, job)
        ctx.save_for_backward(q_THD, k_TKD, v_TKD, normaliser)
        ctx.kernel, ctx.layouts = kernel, layouts
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """See the class."""
        q_THD, k_TKD, v_TKD, normaliser = ctx.saved_tensors
        d_out = grads[0].contiguous()
        dq, dk, dv = (torch.empty(t.shape, dtype=t.dtype) for t in (q_THD, k_TKD, v_TKD))
        shared: list[tuple[int, Tensor]] = []
        for layout in ctx.layouts:
            job = _job(q_THD, k_TKD, v_TKD, layout)
            root_grads = torch.empty(2, len(layout.size_N), layout.root, *k_TKD.shape[1:])
            job.normaliser, job.d_out = normaliser.data_ptr(), d_out.data_ptr()
            job.dq, job.dk, job.dv = dq.data_ptr(), dk.data_ptr(), dv.data_ptr()
            job.root_dk, job.root_dv = root_grads[0].data_ptr(), root_grads[1].data_ptr()
            _call(ctx.kernel.backward, job)
            shared.append((layout.root, root_grads.sum(1)))
        for root, (root_dk, root_dv) in shared:
            if root:
                dk[:root] += root_dk
                dv[:root] += root_dv
        return dq, dk, dv, None, None


def _with_dense_heads(x_THD: Tensor) -> Tensor:
    """Rows may lie apart, heads not."""
    return x_THD if x_THD.stride()[1:] == (x_THD.shape[2], 1) else x_THD.contiguous()


def _job(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: TreeLayout) -> _Job:
    return _Job(
        q=q_THD.data_ptr(),
        k=k_TKD.data_ptr(),
        v=v_TKD.data_ptr(),
        mask=layout.mask_NLS.data_ptr(),
        starts=layout.start_N.data_ptr(),
        sizes=layout.size_N.data_ptr(),
        trees=len(layout.size_N),
        root=layout.root,
        width=layout.mask_NLS.shape[1],
        kv_heads=k_TKD.shape[1],
        q_stride=q_THD.stride(0),
        v_stride=v_TKD.stride(0),
        threads=torch.get_num_threads(),
        scale=layout.scale,
    )


def _call(function: Any, job: _Job) -> None:
    if function(ctypes.byref(job)):
        raise TuningError("attention ran out of memory: lower tokens_per_pass", code="out_of_memory")
