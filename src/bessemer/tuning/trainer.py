"""The primitives every method is made of: forward, forward_backward, optim_step, state and its restoring, export.

They know packed trees, log-probabilities and one adapter; nothing of rows, rewards or files of a job.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bessemer.engine.lora import Adapter, LoraConfig
from bessemer.engine.network import AdapterSpan, Attention, Network
from bessemer.tuning.backend import Adam, Candidates, LossFunction, Scored, Tree
from bessemer.tuning.head import listed_logprobs, token_logprobs
from bessemer.tuning.packing import Packed, pack, split_by_budget


class Trainer:
    """One adapter of one frozen network, with its optimizer."""

    def __init__(
        self,
        network: Network,
        adapter: Adapter,
        *,
        tokens_per_pass: int = 2048,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        """Train `adapter`. `heed` is called in each layer of a pass; what it raises breaks the work off, half done."""
        self.network = network
        self.heed = heed
        self.adapter = adapter
        self._tokens_per_pass = tokens_per_pass
        if not adapter.trainable:
            adapter.require_gradients()
        self._first = torch.zeros_like(adapter.flat)
        self._second = torch.zeros_like(adapter.flat)
        self.updates = 0
        self.tokens = 0
        """Packed tokens that went forward and backward."""

    @classmethod
    def create(cls, network: Network, lora: LoraConfig, *, seed: int = 0, tokens_per_pass: int = 2048) -> "Trainer":
        """Start from a fresh adapter."""
        adapter = Adapter(network.config, lora, network.dtype)
        adapter.initialise(seed)
        return cls(network, adapter, tokens_per_pass=tokens_per_pass)

    def forward(self, trees: Sequence[Tree]) -> list[list[Tensor]]:
        """Return the log-probabilities of each tree's branches: one tensor of token log-probabilities per branch."""
        results: list[list[Tensor]] = [[] for _ in trees]
        with torch.no_grad():
            for group in split_by_budget(trees, self._tokens_per_pass):
                self.heed()
                scored = self._score([trees[i] for i in group], group)
                counts = torch.bincount(scored.branch_I, minlength=scored.n_branches).tolist()
                branches = iter(scored.logprob_I.split(counts))
                for i in group:
                    results[i] = [next(branches) for _ in trees[i].branches]
        return results

    def forward_backward(
        self,
        trees: Sequence[Tree],
        loss: LossFunction,
        *,
        among: Tensor | None = None,
        candidates: Candidates | None = None,
    ) -> float:
        """Add the gradient of a loss over trees to the adapter's; returns the loss.

        Passes run in order of falling length; gradients accumulate in that order, so equal input gives equal bits.
        `among`: sorted ids of the only tokens that the log-probabilities are normalised over, those of the branches
        among them; `candidates`: the same, for each token its own. Neither: the whole vocabulary.
        """
        total = 0.0
        for group in split_by_budget(trees, self._tokens_per_pass):
            self.heed()
            own = None if candidates is None else [ids for i in group for branch in candidates[i] for ids in branch]
            scored = self._score([trees[i] for i in group], group, among, own)
            value = loss(scored)
            if value.requires_grad:
                value.backward()
            total += float(value.detach())
        return total

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of the accumulated gradient; not finite when something overflowed."""
        assert self.adapter.grad is not None
        return float(torch.linalg.vector_norm(self.adapter.grad))

    def zero_grad(self) -> None:
        """Forget the accumulated gradient."""
        assert self.adapter.grad is not None
        self.adapter.grad.zero_()

    def optim_step(self, adam: Adam) -> float:
        """Update the adapter by AdamW with the accumulated gradient, clipped to a norm; returns the norm before."""
        grad = self.adapter.grad
        assert grad is not None
        norm = self.gradient_norm()
        if norm > adam.clip_norm:
            grad.mul_(adam.clip_norm / norm)
        self.updates += 1
        self._first.lerp_(grad, 1 - adam.beta1)
        self._second.mul_(adam.beta2).addcmul_(grad, grad, value=1 - adam.beta2)
        rate = adam.learning_rate / (1 - adam.beta1**self.updates)
        scale = (self._second / (1 - adam.beta2**self.updates)).sqrt_().add_(adam.eps)
        if adam.weight_decay:
            self.adapter.flat.mul_(1 - adam.learning_rate * adam.weight_decay)
        self.adapter.flat.addcdiv_(self._first, scale, value=-rate)
        self.adapter.changed()
        grad.zero_()
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return everything an exact continuation needs, as named tensors (copies)."""
        return {
            "adapter": self.adapter.flat.clone(),
            "first": self._first.clone(),
            "second": self._second.clone(),
            "counters": torch.tensor([self.updates, self.tokens], dtype=torch.int64),
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state."""
        self.adapter.flat.copy_(state["adapter"])
        self._first.copy_(state["first"])
        self._second.copy_(state["second"])
        self.updates, self.tokens = (int(value) for value in state["counters"])
        self.adapter.changed()
        self.zero_grad()

    def export(self, folder: Path, base_name: str) -> None:
        """Write the adapter in peft's format."""
        self.adapter.save(folder, base_name)

    def _score(
        self,
        trees: Sequence[Tree],
        indices: list[int],
        among: Tensor | None = None,
        candidates: Sequence[Tensor | None] | None = None,
    ) -> Scored:
        packed = pack(trees, self.network.config)
        hidden_TH = self.network.forward_hidden(
            packed.token_T,
            packed.position_T,
            _Heeding(packed.attention, self.heed),
            [AdapterSpan(self.adapter, 0, packed.tokens)],
        )
        if torch.is_grad_enabled():
            self.tokens += packed.tokens
        if candidates is None:
            logprob_E, hit_E = self._logprobs(hidden_TH, packed.edge_row_E, packed.edge_token_E, among)
            logprob_I, hit_I = logprob_E[packed.entry_edge_I], hit_E[packed.entry_edge_I]
        else:
            logprob_I, hit_I = self._logprobs_of_candidates(hidden_TH, packed, candidates)
        return Scored(indices, logprob_I, packed.entry_branch_I, hit_I, packed.n_branches)

    def _logprobs(
        self, hidden_TH: Tensor, row_E: Tensor, token_E: Tensor, among: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return per (row, token) the log-probability and whether the token is the most probable one."""
        row_N, own_E = torch.unique(row_E, return_inverse=True)
        head_VH = self.network.weights.head
        if among is not None:
            head_VH, token_E = head_VH[among], torch.searchsorted(among, token_E.contiguous())
        logprob_E, best_N = token_logprobs(hidden_TH[row_N], head_VH, own_E, token_E)
        return logprob_E, best_N[own_E] == token_E

    def _logprobs_of_candidates(
        self, hidden_TH: Tensor, packed: Packed, candidates: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Return the same per entry, of those with a list of candidates among these."""
        row_I, token_I = packed.edge_row_E[packed.entry_edge_I], packed.edge_token_E[packed.entry_edge_I]
        ids = [of_entry for of_entry in candidates if of_entry is not None]
        is_listed = torch.tensor([of_entry is not None for of_entry in candidates])
        listed, free = is_listed.nonzero()[:, 0], (~is_listed).nonzero()[:, 0]
        parts = []
        if len(listed):
            head_VH = self.network.weights.head
            parts.append(listed_logprobs(hidden_TH, head_VH, row_I[listed], token_I[listed], ids))
        if len(free):
            parts.append(self._logprobs(hidden_TH, row_I[free], token_I[free]))
        order = torch.argsort(torch.cat([listed, free]))
        return torch.cat([logprob for logprob, _ in parts])[order], torch.cat([hit for _, hit in parts])[order]


class _Heeding:
    """Attention that looks up in each layer, on the way there and back: one pass of a long row may take minutes."""

    def __init__(self, attention: Attention, heed: Callable[[], None]) -> None:
        self._attention, self._heed = attention, heed

    def attend(self, layer: int, q_THD: Tensor, k_TKD: Tensor, v_TKD: Tensor) -> Tensor:
        """See `bessemer.engine.network.Attention`."""
        self._heed()
        result = self._attention.attend(layer, q_THD, k_TKD, v_TKD)
        if result.requires_grad:
            result.register_hook(lambda _: self._heed())
        return result
