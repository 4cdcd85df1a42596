"""From logits to tokens: bias, grammar, temperature, top_k, top_p, one uniform number per row; all rows at once.

Reported log-probabilities are those of the model itself: float32, temperature 1, before anything changes the logits.
Where a grammar leaves few tokens, they are normalised over these, the distribution that is sampled.
Each row's result depends on that row alone. R rows, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bessemer.engine.request import TopLogprob

_CHUNK = 256


@dataclass(frozen=True)
class SamplingRow:
    """How one row is sampled."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    uniform: float = 0.0
    """In [0, 1): where in the distribution to draw. Not used at temperature 0."""
    top_logprobs: int = 0
    bias: Mapping[int, float] = field(default_factory=dict)


class Drawn(NamedTuple):
    """A token, its log-probability and the alternatives asked for."""

    token: int
    logprob: float
    top: tuple[TopLogprob, ...] = ()


def sample(
    logits_RV: Tensor, rows: Sequence[SamplingRow], allowed: Sequence[Tensor | None] | None = None
) -> list[Drawn]:
    """Draw one token per row. `allowed`: the sorted ids a grammar leaves a row, None where there is no grammar."""
    raw_RV = torch.log_softmax(logits_RV, dim=-1)
    tokens = _choose(logits_RV, raw_RV, rows, allowed or [None] * len(rows))
    logprobs = raw_RV.gather(1, tokens[:, None])[:, 0].tolist()
    tops = [_alternatives(raw_RV[i], row.top_logprobs) if row.top_logprobs else () for i, row in enumerate(rows)]
    return [Drawn(*drawn) for drawn in zip(tokens.tolist(), logprobs, tops, strict=True)]


def sample_listed(logits_K: Tensor, ids_K: Tensor, row: SamplingRow) -> Drawn:
    """Draw among listed tokens only, sorted by id; log-probabilities are normalised over them."""
    raw_K = torch.log_softmax(logits_K, dim=-1)
    places = {int(token): place for place, token in enumerate(ids_K.tolist())} if row.bias else {}
    bias = {places[token]: value for token, value in row.bias.items() if token in places}
    place = _draw_alone(logits_K, replace(row, bias=bias), None)
    top = _alternatives(raw_K, min(row.top_logprobs, len(ids_K))) if row.top_logprobs else ()
    named = tuple(TopLogprob(int(ids_K[other.token]), other.logprob) for other in top)
    return Drawn(int(ids_K[place]), float(raw_K[place]), named)


def score(logits_NV: Tensor, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Return the log-probability of a token in a row, for (row, token) pairs."""
    logprob_NV = torch.log_softmax(logits_NV, dim=-1)
    index_P2 = torch.tensor(pairs, dtype=torch.int64, device=logits_NV.device).view(-1, 2)
    values: list[float] = logprob_NV[index_P2[:, 0], index_P2[:, 1]].tolist()
    return values


def _choose(logits_RV: Tensor, raw_RV: Tensor, rows: Sequence[SamplingRow], allowed: Sequence[Tensor | None]) -> Tensor:
    """Return the token of each row [R]."""
    device = logits_RV.device
    tokens = torch.empty(len(rows), dtype=torch.int64, device=device)
    methods: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        methods.setdefault(_method(row, allowed[i]), []).append(i)
    for method, chosen in methods.items():
        uniforms = torch.tensor([rows[i].uniform for i in chosen], dtype=torch.float64, device=device)
        match method:
            case "greedy":
                tokens[chosen] = _rows_of(logits_RV, chosen).argmax(dim=-1)
            case "untouched":
                tokens[chosen] = _invert(_rows_of(raw_RV, chosen).exp(), uniforms)
            case "plain":
                temperatures = torch.tensor([rows[i].temperature for i in chosen], device=device)
                p_RV = torch.softmax(_rows_of(logits_RV, chosen) / temperatures[:, None], dim=-1)
                tokens[chosen] = _invert(p_RV, uniforms)
            case _:
                for i in chosen:
                    tokens[i] = _draw_alone(logits_RV[i], rows[i], allowed[i])
    return tokens


def _method(row: SamplingRow, allowed: Tensor | None) -> str:
    """Name how a row's token is found; "untouched" spares the second softmax where the model's own one serves."""
    if row.bias or allowed is not None:
        return "alone"
    if row.temperature == 0:
        return "greedy"
    if row.top_p < 1 or row.top_k:
        return "alone"
    return "plain" if row.temperature != 1 else "untouched"


def _draw_alone(logits_V: Tensor, row: SamplingRow, allowed: Tensor | None) -> int:
    """Draw one row's token: bias, grammar, temperature, top_k and top_p; what a grammar forbids is never looked at."""
    scores = logits_V
    if row.bias:
        ids = torch.tensor(list(row.bias), device=scores.device)
        scores = scores.index_add(0, ids, torch.tensor(list(row.bias.values()), device=scores.device))
    if allowed is not None:
        scores = scores[allowed]
    if row.temperature == 0:
        place = int(scores.argmax())
    elif row.top_p < 1 or row.top_k:
        place = _draw_filtered(scores / row.temperature, row)
    else:
        uniform = torch.tensor([row.uniform], dtype=torch.float64, device=scores.device)
        place = int(_invert(torch.softmax(scores / row.temperature, dim=-1)[None], uniform))
    return place if allowed is None else int(allowed[place])


def _rows_of(values_RV: Tensor, chosen: Sequence[int]) -> Tensor:
    return values_RV if len(chosen) == values_RV.shape[0] else values_RV[list(chosen)]


def _invert(p_RV: Tensor, uniform_R: Tensor) -> Tensor:
    """Return per row the first token whose cumulative probability exceeds the uniform number.

    Two levels, sums of chunks and then tokens within one chunk, so that only a small part needs a cumulative sum.
    """
    rows, vocabulary = p_RV.shape
    if vocabulary % _CHUNK:
        p_RV = F.pad(p_RV, (0, -vocabulary % _CHUNK))
    p_RCK = p_RV.view(rows, -1, _CHUNK)
    edges_RC = p_RCK.sum(dim=-1).double().cumsum(dim=-1)
    target_R1 = uniform_R[:, None] * edges_RC[:, -1:]
    chunk_R1 = torch.searchsorted(edges_RC, target_R1, right=True).clamp_(max=edges_RC.shape[1] - 1)
    before_R1 = torch.where(chunk_R1 > 0, edges_RC.gather(1, (chunk_R1 - 1).clamp(min=0)), 0.0)
    inner_RK = p_RCK[torch.arange(rows, device=p_RV.device), chunk_R1[:, 0]].double().cumsum(dim=-1)
    share_R1 = (target_R1 - before_R1) / (edges_RC.gather(1, chunk_R1) - before_R1)
    inside_R1 = torch.searchsorted(inner_RK, share_R1 * inner_RK[:, -1:], right=True).clamp_(max=_CHUNK - 1)
    token_R = (chunk_R1 * _CHUNK + inside_R1)[:, 0]
    possible_R = p_RV.gather(1, token_R[:, None])[:, 0] > 0
    return token_R if bool(possible_R.all()) else torch.where(possible_R, token_R, p_RV.argmax(dim=-1))


def _draw_filtered(scores_V: Tensor, row: SamplingRow) -> int:
    """Draw from the top_k most likely tokens, of these the smallest set that holds top_p."""
    p_V = torch.softmax(scores_V, dim=-1)
    size = min(row.top_k or p_V.numel(), p_V.numel())
    for count in sorted({min(size, 1024), size}):
        kept, ids = p_V.topk(count)
        cumulative = kept.double().cumsum(0)
        total = cumulative[-1] if count == size else torch.tensor(1.0, dtype=torch.float64)
        if count == size or bool(cumulative[-1] >= row.top_p):
            break
    inside = cumulative - kept < row.top_p * total
    cumulative = torch.where(inside & (kept > 0), kept, 0.0).double().cumsum(0)
    place = torch.searchsorted(cumulative, row.uniform * cumulative[-1], right=True).clamp_(max=int(inside.sum()) - 1)
    return int(ids[place])


def _alternatives(raw_V: Tensor, count: int) -> tuple[TopLogprob, ...]:
    values, ids = raw_V.topk(count)
    return tuple(TopLogprob(token, logprob) for token, logprob in zip(ids.tolist(), values.tolist(), strict=True))
