"""Attention of one engine step over the block cache: keys and values are stored, then every row looks at its sequence.

A step packs the new tokens of all sequences. Each row sees the first `length` tokens of its sequence and, in a tree of
labels, its ancestors. Two implementations of the same thing: the compiled kernel, and torch for other devices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.core.errors import EngineError
from bessemer.engine.cache import BLOCK, BlockCache
from bessemer.engine.family import ModelConfig
from bessemer.engine.kernel import AttentionJob, Kernel

Ints = npt.NDArray[np.int32]


class Span(NamedTuple):
    """New tokens of one sequence in a step: rows [first, first + size), stored from position `start` of the sequence.

    Of these the last `len(parents)` are nodes of a tree; a parent is an index into the nodes, -1 the text before it.
    """

    table: Ints
    start: int
    size: int
    parents: tuple[int, ...] = ()

    @property
    def trunk(self) -> int:
        """Sequence length without the tree."""
        return self.start + self.size - len(self.parents)


class PagedAttention:
    """The `Attention` of one step; made anew for each."""

    def __init__(
        self, config: ModelConfig, cache: BlockCache, spans: Sequence[Span], kernel: Kernel | None, padding: int = 0
    ) -> None:
        """`padding` rows at the end belong to no sequence; they write to the scratch block."""
        self._config, self._cache, self._kernel = config, cache, kernel
        device = cache.pool.device
        slots = [span.table[p // BLOCK] * BLOCK + p % BLOCK for span in spans for p in (_positions(span),)]
        self._slot_T = torch.from_numpy(np.concatenate([*slots, np.zeros(padding, np.int32)]).astype(np.int64)).to(
            device
        )
        self._layout = _KernelLayout(spans, padding) if kernel is not None else None
        self._groups = [] if kernel is not None else _torch_groups(config, spans, device)

    def attend(self, layer: int, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> Tensor:
        """See `bessemer.engine.network.Attention`."""
        if self._layout is not None and self._kernel is not None:
            return self._native(layer, q_THD.contiguous(), k_TKD, v_TKD, self._layout, self._kernel)
        keys, values = self._cache.pool[layer]
        keys.index_copy_(0, self._slot_T, k_TKD)
        values.index_copy_(0, self._slot_T, v_TKD)
        out = torch.zeros_like(q_THD)
        for group in self._groups:
            group.attend(q_THD, keys, values, out, self._config.windows[layer], self._config.attention_scale)
        return out

    def _native(
        self, layer: int, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, layout: "_KernelLayout", kernel: Kernel
    ) -> Tensor:
        keys, values = self._cache.pool[layer]
        out = torch.empty_like(q_THD)
        # Rows may lie apart (slices of the fused projection), but each row must be one piece.
        k_TKD, v_TKD = (
            part if part.stride()[1:] == (part.shape[2], 1) else part.contiguous() for part in (k_TKD, v_TKD)
        )
        job = AttentionJob(
            q_THD.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            k_TKD.data_ptr(),
            v_TKD.data_ptr(),
            out.data_ptr(),
            self._slot_T.data_ptr(),
            *layout.pointers,
            q_THD.shape[0],
            self._config.n_kv_heads,
            layout.tables.shape[1],
            self._config.windows[layer] or 0,
            torch.get_num_threads(),
            k_TKD.stride(0),
            v_TKD.stride(0),
            self._config.attention_scale,
        )
        if kernel(job):
            raise EngineError("attention ran out of memory: lower max_batch_tokens or the context length")
        return out


def _positions(span: Span) -> Ints:
    return np.arange(span.start, span.start + span.size, dtype=np.int32)


def _ancestors(parents: Sequence[int], node: int) -> list[int]:
    """Return the nodes on the way from the root to a node, itself included."""
    path = []
    while node >= 0:
        path.append(node)
        node = parents[node]
    return path[::-1]


class _KernelLayout:
    """The kernel's integer arrays for one step."""

    def __init__(self, spans: Sequence[Span], padding: int) -> None:
        width = max(-(-(span.start + span.size) // BLOCK) for span in spans)
        rows = len(spans) + (1 if padding else 0)
        self.tables: Ints = np.zeros((rows, width), np.int32)
        lengths: list[Ints] = []
        extra_counts: list[int] = []
        extras: list[int] = []
        for i, span in enumerate(spans):
            used = min(width, len(span.table))
            self.tables[i, :used] = span.table[:used]
            lengths.append(np.minimum(_positions(span) + 1, span.trunk))
            extra_counts += [0] * (span.size - len(span.parents))
            for node in range(len(span.parents)):
                path = [span.trunk + ancestor for ancestor in _ancestors(span.parents, node)]
                extras += path
                extra_counts.append(len(path))
        counts = [span.size for span in spans] + ([padding] if padding else [])
        self.sequence_of_row: Ints = np.repeat(np.arange(rows, dtype=np.int32), counts)
        self.length_of_row: Ints = np.concatenate([*lengths, np.ones(padding, np.int32)]).astype(np.int32)
        self.extra_start: Ints = np.zeros(sum(counts) + 1, np.int32)
        self.extra_start[1 : len(extra_counts) + 1] = np.cumsum(extra_counts)
        self.extra_start[len(extra_counts) + 1 :] = len(extras)
        self.extras: Ints = np.array([*extras, 0], np.int32)
        arrays = (self.tables, self.sequence_of_row, self.length_of_row, self.extra_start, self.extras)
        self.pointers = tuple(array.ctypes.data for array in arrays)


class _TorchGroup:
    """Spans of equal row count, attended together: keys are gathered with padding to a multiple of the block."""

    def __init__(
        self, config: ModelConfig, first_rows: Sequence[int], spans: Sequence[Span], device: torch.device
    ) -> None:
        count = spans[0].size
        width = max(-(-(span.start + span.size) // BLOCK) for span in spans)
        tables = torch.zeros(len(spans), width, dtype=torch.int64)
        for i, span in enumerate(spans):
            used = min(width, len(span.table))
            tables[i, :used] = torch.from_numpy(span.table[:used].astype(np.int64))
        self.slot_SL = (tables[:, :, None] * BLOCK + torch.arange(BLOCK)).flatten(1).to(device)
        self.row_SQ = (torch.tensor(first_rows)[:, None] + torch.arange(count)).to(device)
        windows = set(config.windows)
        self.masks = {
            window: torch.stack([_span_mask(span, width * BLOCK, window) for span in spans])[:, None].to(device)
            for window in windows
        }

    def attend(
        self, q_THD: Tensor, keys: Tensor, values: Tensor, out_THD: Tensor, window: int | None, scale: float
    ) -> None:
        """Write the rows of this group into `out_THD`."""
        q = q_THD[self.row_SQ].transpose(1, 2)
        k, v = (pool[self.slot_SL].transpose(1, 2) for pool in (keys, values))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.masks[window], scale=scale, enable_gqa=True)
        out_THD[self.row_SQ] = mixed.transpose(1, 2)


def _span_mask(span: Span, width: int, window: int | None) -> Tensor:
    """Return [size, width] of booleans: which stored positions each row of a span sees."""
    mask = torch.zeros(span.size, width, dtype=torch.bool)
    for row in range(span.size):
        node = row - (span.size - len(span.parents))
        path = [span.trunk + ancestor for ancestor in _ancestors(span.parents, node)] if node >= 0 else []
        length = min(span.start + row + 1, span.trunk)
        first = max(0, length + len(path) - window) if window is not None else 0
        mask[row, first:length] = True
        mask[row, path if window is None else path[-window:]] = True
    return mask


def _torch_groups(config: ModelConfig, spans: Sequence[Span], device: torch.device) -> list[_TorchGroup]:
    by_count: dict[int, tuple[list[int], list[Span]]] = {}
    row = 0
    for span in spans:
        rows, members = by_count.setdefault(span.size, ([], []))
        rows.append(row)
        members.append(span)
        row += span.size
    return [_TorchGroup(config, rows, members, device) for rows, members in by_count.values()]
