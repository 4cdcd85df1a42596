"""The port beneath the tuning methods: what computes, in the calls that training services have in common.

A method builds trees of tokens and a loss over their log-probabilities; where the weights are, and what multiplies
them, it does not know. `local.LocalBackend` computes in this process. No torch is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bessemer.core.lazy import Lazy
from bessemer.engine.request import Constraint, GenerateRequest, Generation
from bessemer.engine.tokens import Tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = Lazy("torch")


class Tree(NamedTuple):
    """Token ids of a prompt (at least one) and of its branches (at least one token each, the terminator last)."""

    prompt: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]

    @property
    def cost(self) -> int:
        """Upper bound of its packed tokens."""
        return len(self.prompt) + sum(len(branch) - 1 for branch in self.branches)


class Scored(NamedTuple):
    """Log-probabilities of all branches of some trees. B branches in tree order, I their tokens in branch order."""

    trees: list[int]
    """Indices of the trees in the batch that was given."""
    logprob_I: Tensor
    branch_I: Tensor
    """Which branch, counted over these trees."""
    hit_I: Tensor
    """Whether the token was the most probable one."""
    n_branches: int

    def branch_sums(self) -> Tensor:
        """Return the log-probability of each whole branch [B]."""
        return torch.zeros(self.n_branches).index_add(0, self.branch_I, self.logprob_I)


LossFunction = Callable[[Scored], "Tensor"]
"""Scored trees of one pass -> a scalar. Sums over passes: a loss divides by the batch's totals, not by the pass's."""
Candidates = Sequence[Sequence[Sequence["Tensor | None"]]]
"""By tree, branch and token: the sorted ids that a grammar let it be drawn from; None: the whole vocabulary."""


class Adam(NamedTuple):
    """Constants of one AdamW step (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 1.0


class Backend(Protocol):
    """One adapter of one frozen model, its optimizer, and a sampler of the very weights that are trained."""

    @property
    def tokens(self) -> Tokens:
        """The model's tokenizer and chat template."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens that the model was made for."""
        ...

    @property
    def vocab_size(self) -> int:
        """Tokens that there are."""
        ...

    trained_tokens: int
    """Tokens that went forward and backward."""

    def score(self, trees: Sequence[Tree]) -> list[list[Tensor]]:
        """Return the log-probabilities of each tree's branches: one tensor of token log-probabilities per branch."""
        ...

    def forward_backward(
        self,
        trees: Sequence[Tree],
        loss: LossFunction,
        *,
        among: Tensor | None = None,
        candidates: Candidates | None = None,
    ) -> float:
        """Add the gradient of a loss over trees to what is accumulated; returns the loss.

        `among`: sorted ids of the only tokens that the log-probabilities are normalised over, those of the branches
        among them; `candidates`: the same, for each token its own. Neither: the whole vocabulary.
        """
        ...

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of the accumulated gradient; not finite when something overflowed."""
        ...

    def zero_grad(self) -> None:
        """Forget the accumulated gradient."""
        ...

    def optim_step(self, adam: Adam) -> float:
        """Update the weights by AdamW with the accumulated gradient, clipped to a norm; returns the norm before."""
        ...

    def sample(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        """Answer with the weights as they are; the requests name no adapter."""
        ...

    def candidates(
        self, constraint: Constraint | None, answers: Sequence[Generation]
    ) -> list[tuple[Tensor | None, ...]]:
        """Return what each token of some answers was drawn from under a constraint, None: the whole vocabulary."""
        ...

    def save_state(self) -> dict[str, Tensor]:
        """Return everything an exact continuation needs, as named tensors (copies)."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a state."""
        ...

    def save_weights(self) -> dict[str, Tensor]:
        """Return the weights that a sampler needs, as named tensors (copies): less than the state."""
        ...

    def export(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        """Write saved weights, or the present ones, as a peft folder."""
        ...
