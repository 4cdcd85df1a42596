"""The head: log-probabilities of chosen tokens and their gradient, against a softmax over the whole vocabulary."""

import pytest
import torch
from torch import Tensor

from bessemer.tuning import head
from bessemer.tuning.head import token_logprobs

ROWS, WIDTH, VOCABULARY = 12, 64, 500


def sure_rows(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states, a head in bfloat16, and a token per row with a logit of about 25 that is nearly certain."""
    generator = torch.Generator().manual_seed(seed)
    head_VH = torch.randn(VOCABULARY, WIDTH, generator=generator).to(torch.bfloat16)
    token = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    hidden = head_VH[token].float() * 25 / head_VH[token].float().square().sum(dim=-1, keepdim=True)
    hidden += 0.7 * torch.randn(ROWS, WIDTH, generator=generator)
    return hidden.to(torch.bfloat16), head_VH, token


@pytest.mark.parametrize("chunk", [VOCABULARY * 5, 1 << 23])
def test_bfloat16_rounding_of_logits_does_not_reach_the_gradient(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_CHUNK_ELEMENTS", chunk)
    hidden, head_VH, token = sure_rows(0)
    leaf = hidden.clone().requires_grad_()
    logprob, best = token_logprobs(leaf, head_VH, torch.arange(ROWS), token)
    logprob.sum().backward()
    exact = hidden.float().requires_grad_()
    expected = torch.log_softmax(exact @ head_VH.float().T, dim=-1)
    expected[torch.arange(ROWS), token].sum().backward()
    assert leaf.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(logprob, expected[torch.arange(ROWS), token], atol=1e-4, rtol=0)
    assert torch.equal(best, expected.argmax(dim=-1))
    size = exact.grad.norm(dim=-1)
    off = (leaf.grad.float() - exact.grad).norm(dim=-1)
    assert (off < 0.02 * size + 2e-4).all(), (off / size).tolist()
