"""Packing for training: prompts with several continuations become one flat batch in which nothing is computed twice.

A `Tree` is a prompt and its branches (the labels of an enumerable answer, the samples of a group, or one
demonstration). Branches share their common beginnings as a trie; the beginning that all prompts of a batch have in
common (system text, instructions) is computed once as the batch's root. An edge is a (row, token) pair to be scored; an
entry says which branch an edge belongs to: entries list each branch's tokens in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bessemer.engine.family import ModelConfig
from bessemer.tuning.backend import Tree
from bessemer.tuning.tree_kernel import CompiledTreeAttend, TreeLayout, tree_kernel


def split_by_budget(trees: Sequence[Tree], budget: int) -> list[list[int]]:
    """Return groups of tree indices, similar lengths together, longest first, each within `budget` tokens.

    A tree larger than the budget gets a group of its own: memory is then bounded by the longest tree, and the longest
    comes first so that a run that cannot fit fails at once.
    """
    order = sorted(range(len(trees)), key=lambda i: (-trees[i].cost, i))
    groups: list[list[int]] = []
    used = budget
    for i in order:
        if used + trees[i].cost > budget:
            groups.append([])
            used = 0
        groups[-1].append(i)
        used += trees[i].cost
    return groups


@dataclass(frozen=True)
class Packed:
    """A flat batch. T packed tokens, E edges, I entries, B branches over all trees in order."""

    token_T: Tensor
    position_T: Tensor
    edge_row_E: Tensor
    edge_token_E: Tensor
    entry_edge_I: Tensor
    entry_branch_I: Tensor
    n_branches: int
    attention: "TreeAttention"

    @property
    def tokens(self) -> int:
        """Packed tokens."""
        return int(self.token_T.numel())


class _Builder:
    """Collects rows, edges and visibility of one batch."""

    def __init__(self, root: Sequence[int]) -> None:
        self.tokens = list(root)
        self.positions = list(range(len(root)))
        self.edges: list[tuple[int, int]] = []
        self.entries: list[tuple[int, int]] = []
        self.branches = 0
        self.sizes: list[int] = []
        self.parents: list[list[int]] = []
        """Per tree: of each own row, the own row before it on its path (-1: the root's end)."""

    def add(self, tree: Tree, shared: int) -> None:
        first = len(self.tokens)
        prompt = tree.prompt[shared:]
        self.tokens += prompt
        self.positions += range(shared, shared + len(prompt))
        parents = list(range(-1, len(prompt) - 1))
        edges: dict[tuple[int, int], int] = {}
        children: dict[tuple[int, int], int] = {}
        for branch in tree.branches:
            row = len(prompt) - 1
            for depth, token in enumerate(branch):
                edge = edges.setdefault((row, token), len(self.edges))
                if edge == len(self.edges):
                    self.edges.append((first + row, token))
                self.entries.append((edge, self.branches))
                if depth == len(branch) - 1:
                    break
                child = children.setdefault((row, token), len(parents))
                if child == len(parents):
                    parents.append(row)
                    self.tokens.append(token)
                    self.positions.append(len(tree.prompt) + depth)
                row = child
            self.branches += 1
        self.sizes.append(len(parents))
        self.parents.append(parents)


def pack(trees: Sequence[Tree], config: ModelConfig, *, share_prefix: bool = True) -> Packed:
    """Pack trees into one batch."""
    root = _common_prefix([tree.prompt[:-1] for tree in trees]) if share_prefix and len(trees) > 1 else ()
    builder = _Builder(root)
    for tree in trees:
        builder.add(tree, len(root))
    positions = torch.tensor(builder.positions)
    edges, entries = torch.tensor(builder.edges), torch.tensor(builder.entries)
    return Packed(
        token_T=torch.tensor(builder.tokens),
        position_T=positions,
        edge_row_E=edges[:, 0],
        edge_token_E=edges[:, 1],
        entry_edge_I=entries[:, 0],
        entry_branch_I=entries[:, 1],
        n_branches=builder.branches,
        attention=TreeAttention(config, len(root), builder.sizes, builder.parents, positions),
    )


def _common_prefix(sequences: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    length = 0
    for tokens in zip(*sequences, strict=False):
        if any(token != tokens[0] for token in tokens):
            break
        length += 1
    return sequences[0][:length]


class _Shape(NamedTuple):
    """Constants of one attention call."""

    root: int
    row_NL: Tensor
    own_X: Tensor
    """Positions in the padded [N * L] that hold real rows, in row order."""
    padding_X: Tensor
    """The other positions."""
    mask_NLS: Tensor
    root_mask: Tensor
    scale: float


class TreeAttention:
    """Attention of a packed batch: a row sees the root, then its own path. Padding exists here only, inside a layer."""

    def __init__(
        self, config: ModelConfig, root: int, sizes: Sequence[int], parents: Sequence[Sequence[int]], position_T: Tensor
    ) -> None:
        longest, count = max(sizes), len(sizes)
        starts = [root + sum(sizes[:i]) for i in range(count)]
        row_NL = torch.zeros(count, longest, dtype=torch.long)
        real = torch.zeros(count, longest, dtype=torch.bool)
        visible = torch.zeros(count, longest, root + longest, dtype=torch.bool)
        for i, (start, size, parent) in enumerate(zip(starts, sizes, parents, strict=True)):
            row_NL[i, :size] = torch.arange(start, start + size)
            real[i, :size] = True
            visible[i, :, :root] = True
            visible[i, :size, root : root + size] = _paths(parent)
        visible[:, :, 0] |= ~real  # a padded row sees something, so that its softmax is finite
        query = position_T[row_NL]
        key = torch.cat([torch.arange(root).expand(count, root), query], dim=1)
        distance = query[:, :, None] - key[:, None, :]
        root_distance = torch.arange(root)[:, None] - torch.arange(root)[None, :]
        own = real.flatten().nonzero().squeeze(1)
        self._windows = config.windows
        self._config = config
        self._start_N, self._size_N = torch.tensor(starts), torch.tensor(list(sizes))
        self._shapes = {
            window: _Shape(
                root=root,
                row_NL=row_NL,
                own_X=own,
                padding_X=(~real).flatten().nonzero().squeeze(1),
                mask_NLS=_additive(visible & _within(distance, window) | (visible & ~real[:, :, None])),
                root_mask=_additive((root_distance >= 0) & _within(root_distance, window))[None],
                scale=config.attention_scale,
            )
            for window in set(config.windows)
        }

    def attend(self, layer: int, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> Tensor:
        """See `bessemer.engine.network.Attention`."""
        shape = self._shapes[self._windows[layer]]
        kernel = tree_kernel(self._config, q_THD.dtype) if q_THD.device.type == "cpu" else None
        if kernel is not None:
            compiled: Tensor = CompiledTreeAttend.apply(  # type: ignore[no-untyped-call]
                q_THD, k_TKD, v_TKD, kernel, self._layouts(shape)
            )
            return compiled
        result: Tensor = _TreeAttend.apply(q_THD, k_TKD, v_TKD, shape)  # type: ignore[no-untyped-call]
        return result

    def _layouts(self, shape: _Shape) -> list[TreeLayout]:
        """The trees, and the root as a tree of its own."""
        root, scale = shape.root, shape.scale
        layouts = [TreeLayout(root, self._start_N, self._size_N, shape.mask_NLS, scale)]
        if root:
            layouts.append(TreeLayout(0, torch.tensor([0]), torch.tensor([root]), shape.root_mask, scale))
        return layouts


def _paths(parents: Sequence[int]) -> Tensor:
    """Return [L, L] of booleans: which own rows each row sees."""
    size = len(parents)
    seen = torch.zeros(size, size, dtype=torch.bool)
    chain = next((i for i, parent in enumerate(parents) if parent != i - 1), size)
    seen[:chain, :chain] = torch.ones(chain, chain).tril().bool()
    for row in range(chain, size):
        seen[row] = seen[parents[row]]
        seen[row, row] = True
    return seen


def _within(distance: Tensor, window: int | None) -> Tensor:
    return torch.ones_like(distance, dtype=torch.bool) if window is None else distance < window


def _additive(visible: Tensor) -> Tensor:
    return torch.zeros(visible.shape).masked_fill_(~visible, float("-inf"))


class _TreeAttend(torch.autograd.Function):
    """softmax(scale q k^T + mask) v in float32, one product per (tree, key-value head)."""

    @staticmethod
    def forward(ctx: Any, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, shape: _Shape) -> Tensor:
        out = torch.empty(q_THD.shape, dtype=q_THD.dtype)
        q, k, v = _gather(q_THD, k_TKD, v_TKD, shape)
        p = _probabilities(q, k, shape.mask_NLS, shape.scale)
        _write(out, torch.bmm(p, v), shape)
        saved = [q_THD, k_TKD, v_TKD, p.to(q_THD.dtype)]
        if shape.root:
            q, k, v = _root(q_THD, k_TKD, v_TKD, shape.root)
            p = _probabilities(q, k, shape.root_mask, shape.scale)
            out[: shape.root] = _rows(torch.bmm(p, v), shape.root)
            saved.append(p.to(q_THD.dtype))
        ctx.save_for_backward(*saved)
        ctx.shape = shape
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_THD, k_TKD, v_TKD, p, *root_p = ctx.saved_tensors
        shape: _Shape = ctx.shape
        root, (count, length), heads = shape.root, shape.row_NL.shape, k_TKD.shape[1]
        dq, dk, dv = (torch.empty(t.shape, dtype=torch.float32) for t in (q_THD, k_TKD, v_TKD))
        q, k, v = _gather(q_THD, k_TKD, v_TKD, shape)
        d_out_NLHD = grads[0][shape.row_NL]
        d_out_NLHD.flatten(0, 1)[shape.padding_X] = 0
        d_out = _grouped(d_out_NLHD, heads)
        d_q, d_k, d_v = _backward(q, k, v, p.float(), d_out, shape.scale)
        _write(dq, d_q, shape)
        d_k, d_v = (t.view(count, heads, root + length, -1).transpose(1, 2) for t in (d_k, d_v))
        for target, grad in ((dk, d_k), (dv, d_v)):
            target[root:] = grad[:, root:].flatten(0, 1)[shape.own_X]
            target[:root] = grad[:, :root].sum(0)
        if root:
            q, k, v = _root(q_THD, k_TKD, v_TKD, root)
            d_out = _grouped(grads[0][:root][None], heads)
            d_q, d_k, d_v = _backward(q, k, v, root_p[0].float(), d_out, shape.scale)
            dq[:root] = _rows(d_q, root)
            dk[:root] += d_k.transpose(0, 1)
            dv[:root] += d_v.transpose(0, 1)
        return dq.to(q_THD.dtype), dk.to(q_THD.dtype), dv.to(q_THD.dtype), None


def _grouped(x_NLHD: Tensor, kv_heads: int) -> Tensor:
    """[N, L, H, D] -> float32 [N * K, (H / K) * L, D]: query heads of one key-value head below each other."""
    count, length, heads, width = x_NLHD.shape
    group = heads // kv_heads
    parts = x_NLHD.view(count, length, kv_heads, group, width).permute(0, 2, 3, 1, 4)
    return parts.float().reshape(count * kv_heads, group * length, width)


def _gather(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, shape: _Shape) -> tuple[Tensor, Tensor, Tensor]:
    count, heads = len(shape.row_NL), k_TKD.shape[1]

    def keys(x_TKD: Tensor) -> Tensor:
        own = x_TKD[shape.row_NL]
        if shape.root:
            own = torch.cat([x_TKD[: shape.root].expand(count, -1, -1, -1), own], dim=1)
        return own.transpose(1, 2).float().flatten(0, 1)

    return _grouped(q_THD[shape.row_NL], heads), keys(k_TKD), keys(v_TKD)


def _root(q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor, root: int) -> tuple[Tensor, Tensor, Tensor]:
    k, v = (x[:root].transpose(0, 1).float() for x in (k_TKD, v_TKD))
    return _grouped(q_THD[:root][None], k_TKD.shape[1]), k, v


def _probabilities(q: Tensor, k: Tensor, mask_NLS: Tensor, scale: float) -> Tensor:
    """q [N*K, G*L, D], k [N*K, S, D], mask [N, L, S] -> [N*K, G*L, S]."""
    count, length, span = mask_NLS.shape
    scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
    scores.view(count, -1, length, span).add_(mask_NLS[:, None])
    return torch.softmax(scores, dim=-1)


def _backward(q: Tensor, k: Tensor, v: Tensor, p: Tensor, d_out: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    d_p = torch.bmm(d_out, v.transpose(1, 2))
    d_v = torch.bmm(p.transpose(1, 2), d_out)
    d_s = torch.ops.aten._softmax_backward_data(d_p, p, -1, torch.float32).mul_(scale)
    return torch.bmm(d_s, k), torch.bmm(d_s.transpose(1, 2), q), d_v


def _rows(x: Tensor, length: int) -> Tensor:
    """[K, G * L, D] of one sequence -> [L, H, D]."""
    kv_heads, _, width = x.shape
    return x.view(kv_heads, -1, length, width).permute(2, 0, 1, 3).flatten(1, 2)


def _write(out_THD: Tensor, x: Tensor, shape: _Shape) -> None:
    """Write [N * K, G * L, D] to the rows of the trees."""
    count, length = shape.row_NL.shape
    heads, width = out_THD.shape[1:]
    kv_heads = x.shape[0] // count
    padded = x.view(count, kv_heads, heads // kv_heads, length, width).permute(0, 3, 1, 2, 4)
    out_THD[shape.root :] = padded.reshape(count * length, heads, width)[shape.own_X].to(out_THD.dtype)
