"""Logits are exact to float32 where it matters, with the compiled kernel and without it."""

import pytest
import torch

from bessemer.engine import logits
from bessemer.engine.logits import MARGIN, exact_logits, float32_logits


@pytest.mark.parametrize("native", [True, False])
def test_likely_tokens_are_exact(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:
        monkeypatch.setattr(logits, "_kernel", lambda: None)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 70, generator=generator).bfloat16()
    head = (torch.randn(300, 70, generator=generator) * 0.6).bfloat16()
    expected = hidden.float() @ head.float().T
    found = float32_logits(hidden, head)
    near = expected > expected.amax(dim=-1, keepdim=True) - MARGIN + 0.1
    assert float((found - expected)[near].abs().max()) < 1e-5
    assert float((found - expected).abs().max()) < 0.1
    rounded = (hidden @ head.T).float()
    assert float((rounded - expected)[near].abs().max()) > 1e-3
    rows, tokens = (~near).nonzero(as_tuple=True)
    assert exact_logits(hidden, head, rows, tokens).tolist() == pytest.approx(expected[rows, tokens].tolist(), abs=1e-4)
