"""TF32: every factor is rounded where it is written, since tensor cores cut the bits that TF32 lacks."""

from __future__ import annotations

import pytest
import torch
import triton as _triton
import triton.language as tl
from torch import Tensor

from kernels.common.device import INTERPRET
from kernels.lenet import jit, lenet, passes, plan
from kernels.lenet.geometry import LeNetGeometry
from kernels.lenet.style import Style
from tests.kernels.lenet.networks import Network, by_torch, relative
from tests.kernels.paths import Path

DIGITS = Network("digits", 5)
STYLES = [DIGITS, Network("average of tanh", 3, pool="avg", activation="tanh")]
KEPT = ("y1", "code1", "y2", "code2", "h1", "h2", "packed", "padded")


@_triton.jit
def cutting_dot(b_a, b_b, b_acc, PRECISION: tl.constexpr):
    """What tensor cores make of float32 numbers, in the interpreter."""
    if PRECISION == "tf32 rounded":
        b_a = (b_a.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        b_b = (b_b.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return tl.dot(b_a, b_b, b_acc, input_precision="ieee")


@_triton.jit
def unrounded(b, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    return b.to(DTYPE)


def is_tf32(t: Tensor) -> bool:
    return not bool((t.contiguous().view(torch.int32) & 0x1FFF).any())


@pytest.mark.parametrize("precision", ["tf32", "flags"])
@pytest.mark.parametrize("network", STYLES, ids=str)
def test_what_is_multiplied_is_written_rounded(triton: Path, network: Network, precision: str) -> None:
    """All of it for tf32; under torch's default flags what convolutions multiply, and no more."""
    torch.backends.cudnn.allow_tf32 = True
    style = Style(network.pool == "avg", network.activation == "tanh", torch.float32, precision)
    parameters, x = [p.detach() for p in network.parameters(triton.device)], network.images(triton.device)
    g = LeNetGeometry.of(x, parameters, network.padding)
    scores = x.new_empty(g.n, g.classes)
    kept = passes.forward(x, None, parameters, g, style, "scores", True, (scores, None, None, None))
    gradients = [x.new_empty(g.n, width) for width in (g.classes, g.f2, g.f1, g.features)]
    gradients.append(torch.empty_like(kept[0]))
    dy = torch.randn_like(scores)
    passes._backward_data(dy, None, parameters[2::2], kept, gradients, g, style)
    written = dict(zip((*KEPT, "ds", "dh2", "dh1", "dy2", "dy1"), (*kept, *gradients), strict=True))
    found = {name for name, t in written.items() if t.dtype == torch.float32 and is_tf32(t)}
    convolutions = {"packed", "padded", "y1", "dy2", "dy1"}
    assert found == (convolutions | {"y2", "h1", "h2", "ds", "dh2", "dh1"} if precision == "tf32" else convolutions)


def errors(network: Network, device: str) -> list[float]:
    """Of the scores and of each parameter's gradient in TF32, against float64."""
    torch.manual_seed(0)
    parameters, x = network.parameters(device), network.images(device)
    exact = [p.detach().double().requires_grad_() for p in parameters]
    want = by_torch(x.double(), exact, network)
    y = lenet(x, parameters, **network.options, arithmetic="tf32")
    dy = torch.randn_like(y)
    ours = torch.autograd.grad(y, parameters, dy)
    pairs = zip(ours, torch.autograd.grad(want, exact, dy.double()), strict=True)
    return [relative(y, want), *(relative(a, b) for a, b in pairs)]


@pytest.mark.skipif(not INTERPRET, reason="a card cuts by itself")
def test_rounded_factors_have_less_error_than_cut_ones(triton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("smooth", 3, pool="avg", activation="tanh")
    monkeypatch.setattr(jit, "dot", cutting_dot)
    rounded = errors(network, triton.device)
    for name in ("jit", "windows", "pack", "conv_pool", "forward", "backward", "wgrad"):
        module = __import__(f"kernels.lenet.{name}", fromlist=["operand"])
        if hasattr(module, "operand"):
            monkeypatch.setattr(module, "operand", unrounded)
    cut = errors(network, triton.device)
    assert max(rounded) < 2e-3 and rounded[0] < cut[0]
    assert sum(rounded) < 0.4 * sum(cut)


@pytest.mark.parametrize("images", [plan.LATENCY, plan.THROUGHPUT])
def test_every_plan_has_the_accuracy_of_tf32(triton: Path, images: int) -> None:
    with plan.force_images(images), torch.no_grad():
        parameters, x = DIGITS.parameters(triton.device), DIGITS.images(triton.device)
        want = by_torch(x.double(), [p.double() for p in parameters], DIGITS)
        assert 1e-6 < relative(lenet(x, parameters, arithmetic="tf32"), want) < 1e-3


def test_an_infinite_or_missing_number_is_not_rounded_away(triton: Path) -> None:
    """NaN's bits would overflow into those of a zero."""
    parameters, x = DIGITS.parameters(triton.device), DIGITS.images(triton.device)
    x.view(torch.int32)[1, 0, 14, 14] = 0x7FFFFFFF
    with torch.no_grad(), plan.force_images(plan.THROUGHPUT):
        y = lenet(x, parameters, arithmetic="tf32")
    assert y.isnan().any(1).tolist() == [False, True, False, False, False]
