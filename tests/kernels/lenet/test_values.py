"""The fused LeNet against torch: scores, predictions, losses and the gradient of every parameter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.lenet import lenet, lenet_loss, lenet_predict, plan
from tests.kernels.lenet.networks import Network, by_torch, relative
from tests.kernels.paths import Path

ONE = Network("one image", 1)
DIGITS = Network("digits", 5)
NETWORKS = [
    ONE,
    Network("kernelbench", 2, side=32, padding=0, classes=20),
    Network("odd rows and columns", 2, side=23, padding=1, classes=7),
    Network("few channels", 3, side=19, channels=(3, 5), hidden=(17, 9), classes=2),
    Network("smallest image", 2, side=16, padding=0, classes=33),
    Network("average", 3, pool="avg"),
    Network("tanh", 3, activation="tanh"),
    Network("average of tanh", 3, pool="avg", activation="tanh"),
]
FORWARD, GRADIENT = 1e-5, 1e-4
HALF = {torch.float16: 2**-10, torch.bfloat16: 2**-7}
"""The distance of 1 from the next number: what is always allowed."""


def gradients(y: Tensor, parameters: list[Tensor], dy: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(y, parameters, dy))


def judge(path: Path, network: Network) -> None:
    """Scores and gradients against torch's in float64."""
    parameters, x = network.parameters(path.device), network.images(path.device)
    y = lenet(x, parameters, **network.options, arithmetic="float32")
    exact = [p.detach().double().requires_grad_() for p in parameters]
    want = by_torch(x.double(), exact, network)
    assert y.shape == want.shape and y.dtype == torch.float32
    assert relative(y, want) < FORWARD
    dy = torch.randn_like(y)
    for ours, theirs in zip(gradients(y, parameters, dy), gradients(want, exact, dy.double()), strict=True):
        assert ours.shape == theirs.shape
        assert relative(ours, theirs) < GRADIENT


def small(n: int, dtype: torch.dtype) -> Network:
    """A network that is quick in the interpreter.

    That cuts bfloat16 off where a card rounds: twice the error, and all of it towards zero, which turns ReLUs and
    maxima over; in bfloat16 it has none.
    """
    style = ("avg", "tanh") if dtype == torch.bfloat16 else ("max", "relu")
    return Network("small", n, 16, 0, *style, 3, (2, 3), (5, 4))


def judge_by_layers(path: Path, network: Network, dtype: torch.dtype, forward_only: bool = False) -> None:
    """Scores and gradients in `dtype` have at most twice the error of torch's layers, five times in cut bfloat16."""
    parameters, x = network.parameters(path.device, dtype), network.images(path.device, dtype)
    exact = [p.detach().double().requires_grad_() for p in parameters]
    want, theirs = by_torch(x.double(), exact, network), by_torch(x, parameters, network)
    with torch.set_grad_enabled(not forward_only):
        y = lenet(x, parameters, **network.options, arithmetic="float32" if dtype == torch.float32 else None)
    times, floor = (5 if dtype == torch.bfloat16 and path.device == "cpu" else 2), HALF.get(dtype, FORWARD)
    assert y.dtype == dtype
    assert relative(y, want) <= times * relative(theirs, want) + floor
    if forward_only:
        return
    dy = torch.randn_like(y) / network.n
    wanted, layers = gradients(want, exact, dy.double()), gradients(theirs, parameters, dy)
    for ours, layer, exactly in zip(gradients(y, parameters, dy), layers, wanted, strict=True):
        assert ours.dtype == dtype
        assert relative(ours, exactly) <= times * relative(layer, exactly) + 10 * floor


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_scores_and_gradients(path: Path, network: Network) -> None:
    judge(path, network)


@pytest.mark.parametrize("images", [plan.LATENCY, plan.MIDDLE, plan.THROUGHPUT])
def test_every_plan(triton: Path, images: int) -> None:
    with plan.force_images(images):
        judge(triton, DIGITS)
        with torch.no_grad():
            parameters, x = DIGITS.parameters(triton.device), DIGITS.images(triton.device)
            assert relative(lenet(x, parameters, arithmetic="float32"), by_torch(x, parameters, DIGITS)) < FORWARD


def test_several_rounds_of_a_program(triton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One program takes all rounds, the last of one image: what it keeps from one must not reach the next."""
    monkeypatch.setattr(plan, "programs", lambda n, images, multiprocessors: 1)
    with plan.force_images(plan.MIDDLE):
        judge(triton, replace(DIGITS, n=9))


def test_rows_longer_than_a_step_of_the_weight_gradient(triton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """18 pairs of windows in a row, of which a step takes 16 places: two parts of nine."""
    monkeypatch.setattr(plan, "wgrad_plan", lambda *_: plan.Wgrad(16, 16, (2, 1, 1), 4, 2))
    judge(triton, Network("long rows", 1, side=76, padding=0, classes=3, channels=(1, 2), hidden=(3, 2)))


@pytest.mark.parametrize("dtype", [torch.float32, *HALF], ids=str)
@pytest.mark.parametrize("n", [31, 33])
def test_batches_beside_the_tile(triton: Path, n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan for large batches, all its rounds in one program, forward and backward; a small network."""
    monkeypatch.setattr(plan, "programs", lambda n, images, multiprocessors: 1)
    with plan.force_images(plan.THROUGHPUT):
        judge_by_layers(triton, small(n, dtype), dtype)


def test_a_thousand_images(triton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = plan.Forward(256, 8192, 4096, 32, 64, 4, 2, 1, True)
    if triton.device == "cpu":  # tiles for the interpreter's speed; a card runs its own
        monkeypatch.setattr(plan, "images_at_a_time", lambda n, multiprocessors: 256)
        monkeypatch.setattr(plan, "forward_plans", lambda style, keep: {256: big})
    network = replace(DIGITS, n=1000)
    parameters, x = network.parameters(triton.device), network.images(triton.device)
    with torch.no_grad():
        assert relative(lenet(x, parameters, arithmetic="float32"), by_torch(x, parameters, network)) < FORWARD


@pytest.mark.parametrize(
    "n, dtype",
    [(1000, torch.float16), (1000, torch.bfloat16), pytest.param(65537, torch.float32, marks=pytest.mark.slow)],
    ids=str,
)
def test_large_batches_of_a_small_network(
    triton: Path, n: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small network and, in the interpreter, large tiles, for its speed; 65,537 images go forward only."""
    images = 2**13 if n > 2**13 else 256
    if triton.device == "cpu":
        monkeypatch.setattr(plan, "images_at_a_time", lambda n, multiprocessors: images)
        forward = plan.Forward(images, 2**14, 2**13, 32, 64, 4, 2, 1, True)
        monkeypatch.setattr(plan, "forward_plans", lambda style, keep: {images: forward})
        backward = plan.Backward(images, 2**12, 256, 64, 64, 4, 2, 1)
        monkeypatch.setattr(plan, "backward_plans", lambda style: {images: backward})
        monkeypatch.setattr(plan, "wgrad_plan", lambda *_: plan.Wgrad(2**13, 2**12, (1, 1, 2), 4, 2))
    judge_by_layers(triton, small(n, dtype), dtype, forward_only=n == 65537)


@pytest.mark.parametrize(
    "dtype, network",
    [(torch.float16, DIGITS), (torch.bfloat16, replace(DIGITS, pool="avg", activation="tanh"))],
    ids=str,
)
def test_half_precision(triton: Path, dtype: torch.dtype, network: Network) -> None:
    """At most twice the error of torch's layers in the same dtype, which also pool other positions of near ties.

    Triton's interpreter cuts bfloat16 off where a card rounds: twice the error, and all of it towards zero, which turns
    ReLUs and maxima over; the smooth network has none.
    """
    times = 5 if dtype == torch.bfloat16 and triton.device == "cpu" else 2
    parameters, x = network.parameters(triton.device, dtype), network.images(triton.device, dtype)
    exact = [p.detach().double().requires_grad_() for p in parameters]
    want = by_torch(x.double(), exact, network)
    y, theirs = lenet(x, parameters, **network.options), by_torch(x, parameters, network)
    assert y.dtype == dtype
    assert relative(y, want) <= times * relative(theirs, want) + HALF[dtype]
    dy = torch.randn_like(y)
    wanted, layers = gradients(want, exact, dy.double()), gradients(theirs, parameters, dy)
    for ours, layer, exactly in zip(gradients(y, parameters, dy), layers, wanted, strict=True):
        assert ours.dtype == dtype
        assert relative(ours, exactly) <= times * relative(layer, exactly) + HALF[dtype]


def test_reduced_arithmetic_on_float32_tensors(path: Path) -> None:
    parameters, x = DIGITS.parameters(path.device), DIGITS.images(path.device)
    want = by_torch(x.double(), [p.double() for p in parameters], DIGITS)
    y = lenet(x, parameters, arithmetic="bfloat16")
    assert y.dtype == torch.float32
    assert 1e-4 < relative(y, want) < 4 * HALF[torch.bfloat16], "bfloat16 shows"
    (y.sum()).backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in parameters)


def test_prediction(path: Path) -> None:
    parameters, x = DIGITS.parameters(path.device), DIGITS.images(path.device)
    classes, shares = lenet_predict(x, parameters, arithmetic="float32")
    want = by_torch(x, parameters, DIGITS)
    assert torch.equal(classes, want.argmax(1)) and not shares.requires_grad
    assert relative(shares, want.softmax(1)) < FORWARD


def test_prediction_of_nan_and_of_equal_scores(triton: Path) -> None:
    parameters, x = DIGITS.parameters(triton.device), DIGITS.images(triton.device)
    x[1, 0, 14, 14] = float("nan")
    with torch.no_grad():
        parameters[8].zero_()
        parameters[9].zero_()
        classes, shares = lenet_predict(x, parameters)
        want = by_torch(x, parameters, DIGITS)
    assert torch.equal(classes, want.argmax(1)), "the first of equals, the NaN before all"
    assert torch.equal(shares.isnan(), want.softmax(1).isnan())


@pytest.mark.parametrize("reduction", ["mean", "weighted"])
def test_loss(path: Path, reduction: str) -> None:
    network = replace(DIGITS, n=6)
    parameters, x, labels = network.parameters(path.device), network.images(path.device), network.labels(path.device)
    losses, scores = lenet_loss(x, labels, parameters, arithmetic="float32")
    want_scores = by_torch(x, parameters, network)
    want = F.cross_entropy(want_scores, labels, reduction="none")
    assert relative(losses, want) < FORWARD and relative(scores, want_scores) < FORWARD
    assert not scores.requires_grad
    weight = torch.rand(6, device=path.device) if reduction == "weighted" else torch.full((6,), 1 / 6, device=x.device)
    ours = torch.autograd.grad(losses.mean() if reduction == "mean" else losses @ weight, parameters)
    for a, b in zip(ours, torch.autograd.grad(want @ weight, parameters), strict=True):
        assert relative(a, b) < GRADIENT


def test_a_label_that_is_no_class_has_no_loss(triton: Path) -> None:
    parameters, x, labels = DIGITS.parameters(triton.device), DIGITS.images(triton.device), DIGITS.labels(triton.device)
    labels[2], labels[3] = 10, -1
    losses, _ = lenet_loss(x, labels, parameters)
    assert losses.isnan().tolist() == [False, False, True, True, False]


def whole_numbers(like: Tensor, largest: int) -> Tensor:
    """Whole numbers from -largest to largest, the more zeros the larger the tensor is."""
    numbers = torch.randint(-largest, largest + 1, like.shape)
    return (numbers * (torch.rand(like.shape) < min(1.0, 8 / like[0].numel()))).to(like)


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_whole_numbers_give_exact_answers(triton: Path, pool: str) -> None:
    """Every sum is a whole number (of sixteenths), so that no order of summation changes a bit; ties are many."""
    network = replace(DIGITS, n=3, pool=pool)
    parameters, x = network.parameters(triton.device), network.images(triton.device)
    with torch.no_grad():
        x.copy_((x > 0.5).to(x))
        for p in parameters:
            p.copy_(whole_numbers(p, 2))
    y = lenet(x, parameters, pool=pool)
    exact = [p.detach().double().requires_grad_() for p in parameters]
    want = by_torch(x.double(), exact, network)
    assert torch.equal(y.double(), want) and want.abs().max() > 0
    dy = whole_numbers(y, 3)
    for ours, theirs in zip(gradients(y, parameters, dy), gradients(want, exact, dy.double()), strict=True):
        assert torch.equal(ours.double(), theirs)
