"""One step of the engine: forward pass over the planned tokens, then sampling, scoring of labels, and delivery."""

import itertools
import time
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from bessemer.core.errors import BessemerError
from bessemer.engine.attention import PagedAttention, Span
from bessemer.engine.cache import BlockCache
from bessemer.engine.choices import choose, label_scores, tree_pairs
from bessemer.engine.constraint import LISTED, Grammars
from bessemer.engine.kernel import load_kernel
from bessemer.engine.logits import exact_logits
from bessemer.engine.network import AdapterSpan, Network
from bessemer.engine.request import Choices, TopLogprob
from bessemer.engine.sampling import Drawn, sample, sample_listed, score
from bessemer.engine.scheduler import Scheduler, Work
from bessemer.engine.sequence import Sequence
from bessemer.engine.tokens import Tokens

_MIN_ROWS = 16
"""Below this many rows the float32 product rounds differently than above; such a step is padded, so that a sequence's
result does not depend on how many others run beside it."""
_LOGIT_ELEMENTS = 1 << 24
"""Logits computed at once (64 MiB in float32)."""


class _Pick(NamedTuple):
    """A row whose logits are needed: for drawing the next token, or for scoring a token that is there already."""

    sequence: Sequence
    packed_row: int
    known: int | None


class ModelRunner:
    """Executes planned work on a network."""

    def __init__(
        self, network: Network, tokens: Tokens, cache: BlockCache, scheduler: Scheduler, grammars: Grammars
    ) -> None:
        self._network, self._tokens, self._cache = network, tokens, cache
        self._scheduler, self._grammars = scheduler, grammars
        self._kernel = load_kernel(network.config, network.dtype, cache.pool.device)
        self._slice = max(_MIN_ROWS, _LOGIT_ELEMENTS // network.config.vocab_size)
        self._uncharged = 0.0
        self.sampled = 0
        self.prefilled = 0
        self.reused = 0

    @property
    def native(self) -> bool:
        """Whether the compiled kernel is in use."""
        return self._kernel is not None

    def step(self, works: list[Work]) -> None:
        """Run the planned work to the end: afterwards tokens are delivered and finished sequences removed."""
        started = time.perf_counter()
        base_first = sorted(works, key=lambda work: id(work.sequence.adapter) if work.sequence.adapter else 0)
        with torch.inference_mode():
            hidden_TH = self._forward(base_first)
            picks, trees = _picks(base_first)
            self._count(base_first)
            self._scheduler.finish_step(base_first)
            scores = self._score_trees(hidden_TH, trees)
            slices = [picks[start : start + self._slice] for start in range(0, len(picks), self._slice)]
            drawn = [token for part in slices for token in self._draw(hidden_TH, part)]
        charged = time.perf_counter()
        _charge(base_first, self._uncharged + charged - started)
        for (sequence, _), values in zip(trees, scores, strict=True):
            self._answer(sequence, values)
        self._deliver(picks, drawn)
        self._uncharged = time.perf_counter() - charged

    def _forward(self, works: list[Work]) -> Tensor:
        tokens: list[int] = []
        positions: list[int] = []
        spans: list[Span] = []
        routes: list[AdapterSpan] = []
        for sequence, count, with_tree, _ in works:
            first = len(tokens)
            stop = sequence.computed + count
            tokens += sequence.tokens[sequence.computed : stop]
            positions += range(sequence.computed, stop)
            tree = sequence.tree if with_tree else None
            if tree is not None:
                tokens += tree.tokens
                positions += [stop + depth for depth in tree.depths]
            spans.append(Span(sequence.table, sequence.computed, len(tokens) - first, tree.parents if tree else ()))
            if sequence.adapter is not None:
                if routes and routes[-1].adapter is sequence.adapter:
                    routes[-1] = routes[-1]._replace(stop=len(tokens))
                else:
                    routes.append(AdapterSpan(sequence.adapter, first, len(tokens)))
        padding = max(0, _MIN_ROWS - len(tokens)) if self._network.dtype is torch.float32 else 0
        attention = PagedAttention(self._network.config, self._cache, spans, self._kernel, padding)
        device = self._cache.pool.device
        token_T = torch.tensor(tokens + [0] * padding, device=device)
        position_T = torch.tensor(positions + [0] * padding, device=device)
        return self._network.forward_hidden(token_T, position_T, attention, routes)

    def _count(self, works: Iterable[Work]) -> None:
        for work in works:
            prompt = len(work.sequence.request.prompt)
            if work.sequence.computed < prompt:
                self.prefilled += work.size
            if work.sequence.computed == work.sequence.cached:
                self.reused += work.sequence.cached + len(work.followers) * prompt

    def _logits(self, hidden_TH: Tensor, packed_rows: list[int]) -> Tensor:
        """Return logits [N, vocab] of rows, padded like the step so that they round alike in any company."""
        short = max(0, _MIN_ROWS - len(packed_rows)) if self._network.dtype is torch.float32 else 0
        chosen = torch.tensor(packed_rows + packed_rows[:1] * short, device=hidden_TH.device)
        return self._network.logits(hidden_TH[chosen])[: len(packed_rows)]

    def _draw(self, hidden_TH: Tensor, picks: list[_Pick]) -> list[tuple[Drawn, bool]]:
        """Return per pick its token and whether a grammar left no other."""
        allowed = self._grammars.allowed([pick.sequence.grammar if pick.known is None else None for pick in picks])
        ids = [None if of_row is None else of_row.to(hidden_TH.device) for of_row in allowed or [None] * len(picks)]
        drawn = {i: _certain(pick) for i, pick in enumerate(picks) if pick.known is not None}
        few = [(i, picks[i], of_row) for i, of_row in enumerate(ids) if of_row is not None and len(of_row) <= LISTED]
        drawn |= self._draw_listed(hidden_TH, few)
        rest = [i for i in range(len(picks)) if i not in drawn]
        if rest:
            logits_RV = self._logits(hidden_TH, [picks[i].packed_row for i in rest])
            rows = [picks[i].sequence.row() for i in rest]
            drawn |= zip(rest, sample(logits_RV, rows, [ids[i] for i in rest]), strict=True)
        single = {i for i, _, of_row in few if len(of_row) == 1}
        return [(drawn[i], pick.known is not None or i in single) for i, pick in enumerate(picks)]

    def _draw_listed(self, hidden_TH: Tensor, picks: list[tuple[int, _Pick, Tensor]]) -> dict[int, Drawn]:
        """Draw rows whose grammar leaves few tokens: only their logits are computed."""
        if not picks:
            return {}
        sizes = [len(ids) for _, _, ids in picks]
        packed_R = torch.tensor([pick.packed_row for _, pick, _ in picks], device=hidden_TH.device)
        row_P = packed_R.repeat_interleave(torch.tensor(sizes, device=hidden_TH.device))
        logit_P = exact_logits(hidden_TH, self._network.weights.head, row_P, torch.cat([ids for _, _, ids in picks]))
        return {
            i: sample_listed(logit_K, ids, pick.sequence.row())
            for (i, pick, ids), logit_K in zip(picks, logit_P.split(sizes), strict=True)
        }

    def _deliver(self, picks: list[_Pick], drawn: list[tuple[Drawn, bool]]) -> None:
        for (sequence, _, known), (token, forced) in zip(picks, drawn, strict=True):
            if sequence.ended:
                continue
            try:
                done = self._advance(sequence, token, known is None, forced)
            except BessemerError as error:
                sequence.deliver(error)
                done = True
            if done:
                self._scheduler.remove(sequence)

    def _advance(self, sequence: Sequence, drawn: Drawn, fresh: bool, forced: bool) -> bool:  # noqa: FBT001
        """Let a sequence have its next token; return whether it is over."""
        self.sampled += 1
        grammar = sequence.grammar
        ended = fresh and drawn.token in self._tokens.eos_ids
        if fresh:
            sequence.tokens.append(drawn.token)
            if grammar is not None:
                grammar.check()
                if not ended:
                    grammar.consume([drawn.token])
        last = grammar is not None and grammar.complete and sequence.scored + 1 == len(sequence.tokens)
        finish = sequence.accept(drawn, self._tokens.token_bytes(drawn.token), forced=forced, ended=ended, last=last)
        if finish is None and fresh and grammar is not None:
            extend_forced(sequence)
        return finish is not None

    def _score_trees(self, hidden_TH: Tensor, trees: list[tuple[Sequence, list[int]]]) -> list[list[float]]:
        """Return per tree the log-probabilities of `tree_pairs`; each tree comes with its packed rows."""
        rows: list[int] = []
        pairs: list[tuple[int, int]] = []
        sizes: list[int] = []
        for sequence, packed in trees:
            assert sequence.tree is not None
            found = tree_pairs(sequence.tree)
            pairs += [(len(rows) + row, token) for row, token in found]
            sizes.append(len(found))
            rows += packed
        flat = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda i: pairs[i][0])
        at = 0
        for start in range(0, len(rows), self._slice):
            stop = at
            while stop < len(order) and pairs[order[stop]][0] < start + self._slice:
                stop += 1
            logits_NV = self._logits(hidden_TH, rows[start : start + self._slice])
            wanted = [(pairs[i][0] - start, pairs[i][1]) for i in order[at:stop]]
            self._make_exact(logits_NV, hidden_TH, rows[start : start + self._slice], wanted)
            for i, value in zip(order[at:stop], score(logits_NV, wanted), strict=True):
                flat[i] = value
            at = stop
        ends = list(itertools.accumulate(sizes))
        return [flat[end - size : end] for end, size in zip(ends, sizes, strict=True)]

    def _make_exact(self, logits_NV: Tensor, hidden_TH: Tensor, rows: list[int], wanted: list[tuple[int, int]]) -> None:
        """Free the logits of labels, however unlikely, from the rounding of the weights' type."""
        row_P, token_P = torch.tensor(wanted, device=hidden_TH.device).unbind(1)
        packed_P = torch.tensor(rows, device=hidden_TH.device)[row_P]
        logits_NV[row_P, token_P] = exact_logits(hidden_TH, self._network.weights.head, packed_P, token_P)

    def _answer(self, sequence: Sequence, flat: list[float]) -> None:
        constraint, tree = sequence.request.constraint, sequence.tree
        assert isinstance(constraint, Choices) and tree is not None
        per_token = label_scores(tree, flat)
        sums = [sum(values) for values in per_token]
        biased = [total + bias for total, bias in zip(sums, constraint.bias or [0.0] * len(sums), strict=True)]
        temperature = sequence.request.temperature
        picked = choose(biased, temperature, sequence.uniform() if temperature > 0 else 0.0)
        sequence.answer_choice(
            constraint.labels[picked],
            tree.paths[picked],
            per_token[picked],
            dict(zip(constraint.labels, sums, strict=True)),
        )
        self.sampled += 1
        self._scheduler.remove(sequence)


def _certain(pick: _Pick) -> Drawn:
    """Return a token that the grammar forced: nothing else was possible."""
    assert pick.known is not None
    top = (TopLogprob(pick.known, 0.0),) if pick.sequence.request.top_logprobs else ()
    return Drawn(pick.known, 0.0, top)


def extend_forced(sequence: Sequence) -> None:
    """Append the tokens that the grammar leaves no choice about, up to the answer's limit."""
    grammar = sequence.grammar
    assert grammar is not None
    room = len(sequence.request.prompt) + sequence.max_tokens - len(sequence.tokens)
    forced = grammar.forced()[: max(room, 0)]
    if forced:
        grammar.consume(forced)
        sequence.tokens += forced


def _charge(works: list[Work], seconds: float) -> None:
    """Split the time of a step over its sequences by the tokens computed; a follower counts as one token."""
    total = sum(work.rows + len(work.followers) for work in works)
    for work in works:
        work.sequence.engine_seconds += seconds * work.rows / total
        for follower in work.followers:
            follower.engine_seconds += seconds / total


def _picks(works: list[Work]) -> tuple[list[_Pick], list[tuple[Sequence, list[int]]]]:
    """Return the rows whose logits are needed, and for trees the packed rows of the prompt's end and of the nodes."""
    picks: list[_Pick] = []
    trees: list[tuple[Sequence, list[int]]] = []
    first = 0
    for work in works:
        sequence = work.sequence
        stop = sequence.computed + work.size
        if sequence.tree is not None:
            if work.with_tree:
                trees.append((sequence, list(range(first + work.size - 1, first + work.rows))))
        else:
            for row in range(max(sequence.computed, sequence.scored - 1), stop):
                known = sequence.tokens[row + 1] if row + 1 < len(sequence.tokens) else None
                packed = first + row - sequence.computed
                picks += [_Pick(taker, packed, known) for taker in (sequence, *work.followers)]
        first += work.rows
    return picks, trees
