"""The compiled kernels do what the torch operations do, forward and backward."""

import pytest
import torch
from torch import Tensor

from bessemer.engine import fused


@pytest.fixture(params=["compiled", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations; the torch one is what runs without a compiler."""
    if request.param == "torch":
        monkeypatch.setattr(fused, "_native", lambda name, x: None)
    elif fused._library(torch.float32) is None:
        pytest.skip("no C compiler")
    return request.param


def check(function, reference, *inputs: Tensor, atol: float = 1e-5) -> None:
    grads = []
    outputs = []
    for f in (function, reference):
        own = [tensor.clone().requires_grad_() for tensor in inputs]
        result = f(*own)
        results = result if isinstance(result, tuple) else (result,)
        torch.manual_seed(1)
        sum((r * torch.randn(r.shape)).sum() for r in results).backward()
        outputs.append(results)
        grads.append([tensor.grad for tensor in own])
    for a, b in zip(outputs[0], outputs[1], strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)
    for a, b in zip(grads[0], grads[1], strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_norms(path: str) -> None:
    x, delta, weight = torch.randn(37, 24), torch.randn(37, 24), torch.rand(24)
    check(lambda a: fused.norm(a, weight, 1e-5), lambda a: rms(a, weight), x)
    check(lambda a, b: fused.add_norm(a, b, weight, 1e-5), lambda a, b: (a + b, rms(a + b, weight)), x, delta)


def test_norm_of_strided_heads(path: str) -> None:
    x, weight = torch.randn(5, 40), torch.rand(8)
    check(
        lambda a: fused.norm(a[:, :24].unflatten(-1, (3, 8)), weight, 1e-5),
        lambda a: rms(a[:, :24].unflatten(-1, (3, 8)), weight),
        x,
    )


def test_rotation_turns_pairs_and_keeps_lengths(path: str) -> None:
    angle = torch.rand(6, 1, 4) * 6
    x = torch.randn(6, 40)

    def reference(a: Tensor) -> Tensor:
        first, second = a[:, :24].unflatten(-1, (3, 8)).chunk(2, dim=-1)
        turned = torch.complex(first, second) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([turned.real, turned.imag], dim=-1)

    check(lambda a: fused.rotate(a[:, :24].unflatten(-1, (3, 8)), angle.cos(), angle.sin()), reference, x)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_gates(path: str, activation: fused.Activation) -> None:
    x = torch.randn(19, 50) * 4

    def reference(a: Tensor) -> Tensor:
        gate, up = a.chunk(2, dim=-1)
        act = (
            torch.nn.functional.silu(gate)
            if activation == "silu"
            else torch.nn.functional.gelu(gate, approximate="tanh")
        )
        return act * up

    check(lambda a: fused.gate(a, activation), reference, x)


def test_a_broken_value_stays_broken(path: str) -> None:
    """A finite check after the backward pass must see it."""
    x = torch.ones(3, 8)
    x[1, 2] = float("nan")
    assert not torch.isfinite(fused.gate(x, "silu")).all()
    assert not torch.isfinite(fused.norm(x, torch.ones(8), 1e-5)).all()
