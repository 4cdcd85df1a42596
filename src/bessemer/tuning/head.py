"""Log-probabilities of chosen tokens without keeping [rows, vocabulary] in memory.

Only rows that predict something reach the head; their logits are made in chunks in float32, and made again in the
backward pass (tuning with a vocabulary of 262,144: 8,000 rows of logits would be 8.6 GB).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bessemer.engine.logits import exact_logits, float32_logits

_CHUNK_ELEMENTS = 1 << 23
"""Logits per chunk: 32 MB in float32."""


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NH: Tensor, head_VH: Tensor, row_E: Tensor, token_E: Tensor) -> tuple[Tensor, Tensor]:
        """Edges are sorted by row."""
        logprob_E = torch.empty(len(row_E))
        best_N = torch.empty(len(hidden_NH), dtype=torch.long)
        normaliser_N = torch.empty(len(hidden_NH))
        for start, stop, edges in _chunks(len(hidden_NH), head_VH, row_E):
            # As the sampler computes them: rounded logits would make margins between labels coarse.
            logits = float32_logits(hidden_NH[start:stop], head_VH)
            torch.logsumexp(logits, dim=-1, out=normaliser_N[start:stop])
            best_N[start:stop] = logits.argmax(-1)
            rows = row_E[edges]
            logprob_E[edges] = exact_logits(hidden_NH, head_VH, rows, token_E[edges]) - normaliser_N[rows]
        ctx.save_for_backward(hidden_NH, head_VH, row_E, token_E, normaliser_N)
        ctx.mark_non_differentiable(best_N)
        return logprob_E, best_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        hidden_NH, head_VH, row_E, token_E, normaliser_N = ctx.saved_tensors
        grad_E = grads[0]
        total_N = torch.zeros(len(hidden_NH)).index_add(0, row_E, grad_E)
        d_hidden = torch.empty_like(hidden_NH)
        for start, stop, edges in _chunks(len(hidden_NH), head_VH, row_E):
            # As in the normaliser: with rounded logits a sure token's factor 1 - p is noise of any sign.
            logits = float32_logits(hidden_NH[start:stop], head_VH)
            d_logits = logits.sub_(normaliser_N[start:stop, None]).exp_().mul_(-total_N[start:stop, None])
            d_logits.index_put_((row_E[edges] - start, token_E[edges]), grad_E[edges], accumulate=True)
            d_hidden[start:stop] = d_logits.to(head_VH.dtype) @ head_VH
        return d_hidden, None, None, None


def token_logprobs(hidden_NH: Tensor, head_VH: Tensor, row_E: Tensor, token_E: Tensor) -> tuple[Tensor, Tensor]:
    """Return (log pi(token | row) per edge [E], most probable token per row [N]); differentiable in hidden_NH."""
    order = torch.argsort(row_E, stable=True)
    logprob, best = _TokenLogprobs.apply(hidden_NH, head_VH, row_E[order], token_E[order])  # type: ignore[no-untyped-call]
    return logprob[torch.argsort(order)], best


class _ListedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, head_VH: Tensor, row_I: Tensor, token_I: Tensor, entry_P: Tensor, id_P: Tensor
    ) -> tuple[Tensor, Tensor]:
        logit_P = exact_logits(hidden_NH, head_VH, row_I[entry_P], id_P)
        best_I = torch.full((len(row_I),), -torch.inf).scatter_reduce(0, entry_P, logit_P, "amax")
        sum_I = torch.zeros(len(row_I)).index_add(0, entry_P, (logit_P - best_I[entry_P]).exp())
        normaliser_I = best_I + sum_I.log()
        own_I = torch.zeros(len(row_I)).index_add(0, entry_P, torch.where(id_P == token_I[entry_P], logit_P, 0.0))
        ctx.save_for_backward(hidden_NH, head_VH, row_I, token_I, entry_P, id_P, logit_P - normaliser_I[entry_P])
        hit_I = own_I >= best_I
        ctx.mark_non_differentiable(hit_I)
        return own_I - normaliser_I, hit_I

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        hidden_NH, head_VH, row_I, token_I, entry_P, id_P, logprob_P = ctx.saved_tensors
        d_logit_P = grads[0][entry_P] * ((id_P == token_I[entry_P]).float() - logprob_P.exp())
        row_P, d_hidden = row_I[entry_P], torch.zeros(hidden_NH.shape)
        step = max(1, _CHUNK_ELEMENTS // hidden_NH.shape[1])
        for rows, ids, d_logit in zip(row_P.split(step), id_P.split(step), d_logit_P.split(step), strict=True):
            d_hidden.index_add_(0, rows, d_logit[:, None] * head_VH[ids].float())
        return d_hidden.to(hidden_NH.dtype), None, None, None, None, None


def listed_logprobs(
    hidden_NH: Tensor, head_VH: Tensor, row_I: Tensor, token_I: Tensor, ids: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return (log pi(token | row, one of its ids) [I], whether it is the most probable of them [I]).

    `ids`: per entry the sorted ids that a grammar left, the token among them. Differentiable in hidden_NH.
    """
    sizes = torch.tensor([len(of_entry) for of_entry in ids])
    entry_P = torch.arange(len(ids)).repeat_interleave(sizes)
    logprob, hit = _ListedLogprobs.apply(hidden_NH, head_VH, row_I, token_I, entry_P, torch.cat(list(ids)))  # type: ignore[no-untyped-call]
    return logprob, hit


def _chunks(rows: int, head_VH: Tensor, row_E: Tensor) -> list[tuple[int, int, slice]]:
    """Split the rows; each chunk comes with the slice of the edges that leave from it."""
    step = max(1, _CHUNK_ELEMENTS // head_VH.shape[0])
    starts = list(range(0, rows, step))
    stops = [min(start + step, rows) for start in starts]
    cuts = [0, *torch.searchsorted(row_E, torch.tensor(stops)).tolist()]
    return [(a, b, slice(cuts[i], cuts[i + 1])) for i, (a, b) in enumerate(zip(starts, stops, strict=True))]
