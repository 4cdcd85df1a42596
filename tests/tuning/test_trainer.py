"""The primitives: what must not change a result, and that gradients are right."""

from pathlib import Path

import pytest
import torch
from tests.engine.tiny_model import CausalAttention
from tests.tuning.trees import random_trees
from torch import Tensor

from bessemer.engine.lora import Adapter, LoraConfig
from bessemer.engine.network import AdapterSpan, Network
from bessemer.tuning.backend import Adam, Scored, Tree
from bessemer.tuning.packing import split_by_budget
from bessemer.tuning.trainer import Trainer


def trainer_of(network: Network, *, budget: int = 10_000, first_layer: int = 0) -> Trainer:
    trainer = Trainer.create(network, LoraConfig(rank=3, alpha=6, first_layer=first_layer), tokens_per_pass=budget)
    trainer.adapter.flat.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    trainer.adapter.changed()
    return trainer


def nll(scored: Scored) -> Tensor:
    return -scored.logprob_I.sum()


def gradient(trainer: Trainer, trees: list[Tree]) -> Tensor:
    trainer.zero_grad()
    trainer.forward_backward(trees, nll)
    return trainer.adapter.grad.clone()


def reference_logprobs(trainer: Trainer, tree: Tree, among: Tensor | None = None) -> list[Tensor]:
    """Each branch as a sequence of its own, logits of the whole vocabulary, normalised over some of it or all."""
    network, results = trainer.network, []
    for branch in tree.branches:
        ids = torch.tensor([*tree.prompt, *branch])
        with torch.no_grad():
            hidden = network.forward_hidden(
                ids[:-1],
                torch.arange(len(ids) - 1),
                CausalAttention(network.config, [len(ids) - 1]),
                [AdapterSpan(trainer.adapter, 0, len(ids) - 1)],
            )
        logits = network.logits(hidden)
        if among is not None:
            outside = torch.ones(network.config.vocab_size, dtype=torch.bool).index_fill(0, among, value=False)
            logits = logits.masked_fill(outside, -torch.inf)
        logprob = torch.log_softmax(logits, -1)
        rows = torch.arange(len(tree.prompt) - 1, len(ids) - 1)
        results.append(logprob[rows, ids[rows + 1]])
    return results


def test_packed_trees_score_like_separate_sequences(network: Network) -> None:
    trainer, trees = trainer_of(network), random_trees(0)
    for scored, tree in zip(trainer.forward(trees), trees, strict=True):
        for branch, expected in zip(scored, reference_logprobs(trainer, tree), strict=True):
            torch.testing.assert_close(branch, expected, atol=2e-5, rtol=1e-5)


def test_gradient_does_not_depend_on_order_split_or_sharing(network: Network) -> None:
    trees = random_trees(1)
    whole = gradient(trainer_of(network), trees)
    assert whole.norm() > 0
    variants = {
        "permuted": gradient(trainer_of(network), trees[::-1]),
        "one tree a pass": gradient(trainer_of(network, budget=1), trees),
        "small passes": gradient(trainer_of(network, budget=40), trees),
        "one branch a tree": gradient(trainer_of(network), [Tree(t.prompt, (b,)) for t in trees for b in t.branches]),
    }
    for name, other in variants.items():
        torch.testing.assert_close(other, whole, atol=1e-4, rtol=1e-3, msg=name)


def test_gradient_agrees_with_finite_differences(network: Network) -> None:
    trainer, trees = trainer_of(network), random_trees(2)
    grad = gradient(trainer, trees)
    direction = torch.randn(grad.shape, generator=torch.Generator().manual_seed(0))
    direction /= direction.norm()
    start, values, step = trainer.adapter.flat.clone(), [], 1e-2
    for sign in (1, -1):
        trainer.adapter.flat.copy_(start + sign * step * direction)
        trainer.adapter.changed()
        values.append(-sum(float(b.double().sum()) for tree in trainer.forward(trees) for b in tree))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(grad @ direction), rel=2e-2, abs=1e-2)


def test_layers_below_the_first_get_no_adapter_and_the_rest_the_same_gradient(network: Network) -> None:
    trees = random_trees(3)
    upper = trainer_of(network, first_layer=1)
    whole = trainer_of(network)
    half = len(whole.adapter.flat) // 2
    whole.adapter.flat[:half] = 0
    whole.adapter.flat[half:] = upper.adapter.flat
    whole.adapter.changed()
    torch.testing.assert_close(gradient(whole, trees)[half:], gradient(upper, trees), atol=1e-4, rtol=1e-3)


def test_base_weights_get_no_gradient(network: Network) -> None:
    trainer = trainer_of(network)
    gradient(trainer, random_trees(0))
    tensors = [network.weights.embedding, *(layer.qkv for layer in network.weights.layers)]
    assert all(tensor.grad is None and not tensor.requires_grad for tensor in tensors)


def test_state_continues_bit_for_bit(network: Network) -> None:
    trees = random_trees(4)

    def step(trainer: Trainer) -> None:
        trainer.forward_backward(trees, nll)
        trainer.optim_step(Adam(1e-2))

    one = trainer_of(network)
    step(one)
    two = trainer_of(network)
    two.load_state(one.state())
    for trainer in (one, two):
        step(trainer)
    assert torch.equal(one.adapter.flat, two.adapter.flat)
    assert not torch.equal(one.adapter.flat, trainer_of(network).adapter.flat)


def test_adam_agrees_with_torch(network: Network) -> None:
    trainer = trainer_of(network)
    parameter = torch.nn.Parameter(trainer.adapter.flat.clone())
    reference = torch.optim.AdamW([parameter], lr=1e-2, betas=(0.9, 0.98), weight_decay=0.1)
    for seed in range(3):
        grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
        trainer.adapter.grad.copy_(grad)
        parameter.grad = grad.clone()
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        reference.step()
        trainer.optim_step(Adam(1e-2, weight_decay=0.1))
    torch.testing.assert_close(trainer.adapter.flat, parameter.detach(), atol=1e-6, rtol=1e-5)


def test_adapter_survives_the_disk(network: Network, tmp_path: Path) -> None:
    trainer = trainer_of(network, first_layer=1)
    trainer.export(tmp_path, "tiny")
    loaded = Adapter.load(tmp_path, network.config, network.dtype)
    assert loaded.fingerprint() == trainer.adapter.fingerprint()
    assert loaded.config == trainer.adapter.config


def test_budget_splits_longest_first() -> None:
    trees = random_trees(5)
    groups = split_by_budget(trees, 60)
    assert sorted(i for group in groups for i in group) == list(range(len(trees)))
    assert all(len(group) == 1 or sum(trees[i].cost for i in group) <= 60 for group in groups)
    assert trees[groups[0][0]].cost == max(tree.cost for tree in trees)


def test_training_without_a_compiler_gives_the_same(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    trees = random_trees(6)
    compiled = gradient(trainer_of(network), trees)
    monkeypatch.setattr("bessemer.tuning.packing.tree_kernel", lambda config, dtype: None)
    torch.testing.assert_close(gradient(trainer_of(network), trees), compiled, atol=1e-4, rtol=1e-3)


def test_log_probabilities_among_some_tokens_are_those_of_a_softmax_over_them(network: Network) -> None:
    trainer, trees = trainer_of(network), random_trees(5)
    own = {token for tree in trees for branch in tree.branches for token in branch}
    among = torch.tensor(sorted(own | {0, 7, 200}))
    seen: dict[int, list[Tensor]] = {}

    def loss(scored: Scored) -> Tensor:
        parts = scored.logprob_I.detach().split(torch.bincount(scored.branch_I).tolist())
        sizes = [len(trees[i].branches) for i in scored.trees]
        starts = [sum(sizes[:at]) for at in range(len(sizes))]
        seen.update({i: list(parts[a : a + n]) for i, a, n in zip(scored.trees, starts, sizes, strict=True)})
        return nll(scored)

    trainer.zero_grad()
    trainer.forward_backward(trees, loss, among=among)
    assert trainer.adapter.grad is not None and trainer.adapter.grad.norm() > 0
    for i, tree in enumerate(trees):
        for scored, expected in zip(seen[i], reference_logprobs(trainer, tree, among), strict=True):
            torch.testing.assert_close(scored, expected, atol=2e-5, rtol=1e-5)


def test_candidates_of_each_token_normalise_it_and_its_gradient(network: Network) -> None:
    trees = random_trees(7)
    own = {token for tree in trees for branch in tree.branches for token in branch}
    among = torch.tensor(sorted(own | {1, 99}))
    shared, own_lists = trainer_of(network), trainer_of(network)
    for trainer in (shared, own_lists):
        trainer.zero_grad()
    value = shared.forward_backward(trees, nll, among=among)
    lists = [[[among] * len(branch) for branch in tree.branches] for tree in trees]
    assert own_lists.forward_backward(trees, nll, candidates=lists) == pytest.approx(value, rel=1e-5)
    torch.testing.assert_close(own_lists.adapter.grad, shared.adapter.grad, atol=1e-4, rtol=1e-3)


def test_tokens_without_candidates_are_normalised_over_the_vocabulary(network: Network) -> None:
    trees = random_trees(8)
    whole = gradient(trainer_of(network), trees)
    trainer = trainer_of(network, budget=60)
    trainer.zero_grad()
    trainer.forward_backward(trees, nll, candidates=[[[None] * len(b) for b in tree.branches] for tree in trees])
    torch.testing.assert_close(trainer.adapter.grad, whole, atol=1e-4, rtol=1e-3)
    # A forced token has itself as its only candidate: certain, and without a gradient.
    trainer.zero_grad()
    forced = [[[torch.tensor([token]) for token in branch] for branch in tree.branches] for tree in trees]
    assert trainer.forward_backward(trees, nll, candidates=forced) == 0
    assert float(trainer.adapter.grad.abs().max()) == 0


def test_tokens_with_and_without_candidates_keep_their_places(network: Network) -> None:
    trainer, tree = trainer_of(network), random_trees(9, count=1)[0]
    among = torch.tensor(sorted({token for branch in tree.branches for token in branch} | {3, 120}))
    lists = [[among if place % 2 else None for place in range(len(branch))] for branch in tree.branches]
    seen: list[Tensor] = []

    def loss(scored: Scored) -> Tensor:
        seen.append(scored.logprob_I.detach())
        return nll(scored)

    trainer.forward_backward([tree], loss, candidates=[lists])
    whole, few = reference_logprobs(trainer, tree), reference_logprobs(trainer, tree, among)
    expected = [
        torch.where(torch.arange(len(free)) % 2 == 1, listed, free) for free, listed in zip(whole, few, strict=True)
    ]
    torch.testing.assert_close(seen[0], torch.cat(expected), atol=2e-5, rtol=1e-5)


def test_among_the_whole_vocabulary_nothing_changes(network: Network) -> None:
    trees = random_trees(6)
    whole = gradient(trainer_of(network), trees)
    trainer = trainer_of(network)
    trainer.zero_grad()
    trainer.forward_backward(trees, nll, among=torch.arange(network.config.vocab_size))
    torch.testing.assert_close(trainer.adapter.grad, whole)
