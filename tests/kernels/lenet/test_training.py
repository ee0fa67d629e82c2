"""A fused LeNet learns real digits along the same losses as the layers do."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cnn.models import LeNet
from kernels import backend
from kernels.lenet import plan
from tests.kernels.lenet.networks import digits, relative
from tests.kernels.paths import Path

COUNT, BATCH, EPOCHS = 320, 32, 2


@pytest.fixture
def quick(triton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tiles, which the interpreter is quicker with; a card runs its own."""
    if triton.device == "cpu":
        monkeypatch.setattr(plan, "images_at_a_time", lambda n, multiprocessors: 32)
        forward = plan.Forward(32, 8192, 2048, 32, 128, 4, 2, 1, True)
        monkeypatch.setattr(plan, "forward_plans", lambda style, keep: {32: forward})
        monkeypatch.setattr(plan, "backward_plans", lambda style: {32: plan.Backward(32, 2048, 128, 512, 128, 4, 2, 1)})
        monkeypatch.setattr(plan, "wgrad_plan", lambda *_: plan.Wgrad(8192, 32, (1, 1, 1), 4, 2))


def trained(model: LeNet, images: Tensor, labels: Tensor) -> tuple[list[float], list[Tensor]]:
    """The loss of every step, and the weights after the last."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, foreach=True)
    losses: list[float] = []
    for _ in range(EPOCHS):
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, [p.detach() for p in model.parameters()]


def apart(losses: list[float], exactly: list[float]) -> float:
    """The largest distance of a step's loss."""
    return max(abs(a - b) for a, b in zip(losses, exactly, strict=True))


def test_the_losses_of_the_layers(quick: None, triton: Path) -> None:
    images, labels = (t[:COUNT].to(triton.device) for t in digits())
    torch.manual_seed(0)
    fused = LeNet(fused=True).to(triton.device)
    layers = LeNet().to(triton.device)
    layers.load_state_dict(fused.state_dict())
    exact = copy.deepcopy(layers).double()
    ours, our_weights = trained(fused, images, labels)
    with backend("torch"):
        want, weights = trained(layers, images, labels)
        exactly, exact_weights = trained(exact, images.double(), labels)
    assert want[-1] < 0.8 * want[0], "it learns"
    # Rounding grows from step to step alike: float64 says how much of it float32 makes.
    assert apart(ours, exactly) <= 3 * apart(want, exactly) + 1e-5
    for weight, layer, exact_one in zip(our_weights, weights, exact_weights, strict=True):
        assert relative(weight, exact_one) <= 3 * relative(layer, exact_one) + 1e-5
