"""Predicted times: never under the roofline, in whole waves, and bound by what is scarce."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import kernels
from kernels.common.device import H100, Card, assume_card
from kernels.common.launch import Launch, record
from kernels.common.roofline import LIMITS, START, Code, Prediction, limits_of, predict

CARD = LIMITS["sm_90"]


def called(function: Any, *shapes: tuple[int, ...], dtype: torch.dtype = torch.float16, **options: Any) -> list[Launch]:
    """The launches of a call in channels_last, planned for an H100. Its tensors are never touched."""
    given = [torch.empty(s, dtype=dtype, memory_format=torch.channels_last) for s in shapes]
    with kernels.backend("triton"), assume_card(H100), record() as found, torch.no_grad():
        function(*given, **options)
    return found


def conv(n: int, c: int, size: int, k: int, taps: int, **options: Any) -> tuple[list[Launch], float]:
    y = ((size + 2 * (taps // 2) - taps) // options.get("stride", 1) + 1) ** 2 * n * k
    flops = 2 * y * c * taps**2
    return called(kernels.conv2d, (n, c, size, size), (k, c, taps, taps), padding=taps // 2, **options), flops


@pytest.fixture(autouse=True)
def untouched(poisoned_memory: None) -> None:
    torch.use_deterministic_algorithms(False)


# Microseconds a study of these layers predicted with efficiencies of its own; the model must not stray from it.
@pytest.mark.parametrize(
    "n, c, size, k, taps, stride, studied",
    [
        (256, 256, 14, 256, 3, 1, 98),
        (256, 128, 28, 128, 3, 1, 119),
        (256, 512, 7, 512, 3, 1, 114),
        (256, 1024, 14, 256, 1, 1, 54),
        (256, 256, 28, 256, 3, 2, 103),
    ],
)
def test_dense_layers_on_an_h100(n: int, c: int, size: int, k: int, taps: int, stride: int, studied: float) -> None:
    found = predict(*conv(n, c, size, k, taps, stride=stride), CARD)
    assert found.floor < found.seconds and 0.3 < found.share < 1
    assert found.seconds == pytest.approx(studied * 1e-6, rel=0.25)


@pytest.mark.parametrize(
    "n, c, size, k, taps", [(256, 1024, 14, 256, 1), (256, 256, 56, 64, 1), (256, 256, 14, 256, 3)]
)
def test_a_weight_gradient_is_shared_by_its_parts(n: int, c: int, size: int, k: int, taps: int) -> None:
    """Each program sums its own part of the pixels, not all of them."""
    x = torch.empty(n, c, size, size, dtype=torch.float16, memory_format=torch.channels_last)
    w = torch.empty(k, c, taps, taps, dtype=torch.float16, memory_format=torch.channels_last, requires_grad=True)
    with kernels.backend("triton"), assume_card(H100), record() as found:
        y = kernels.conv2d(x, w, padding=taps // 2)
        before = len(found)
        y.backward(torch.empty_like(y))
    flops = 2.0 * y.numel() * c * taps**2
    made = predict(found[before:], flops, CARD)
    assert any(launch.arguments.get("splits", 1) > 1 for launch in found[before:])
    assert 0.5 < made.share < 1


def test_what_is_scarce_bounds() -> None:
    pool = called(kernels.max_pool2d, (256, 64, 112, 112), kernel_size=3, stride=2, padding=1)
    found = predict(pool, 0.0, CARD)
    assert found.bound == "memory" and found.share > 0.8
    assert predict(pool, 0.0, replace(CARD, bandwidth=CARD.bandwidth / 2)).seconds > 1.9 * found.seconds
    dense = conv(256, 256, 14, 256, 3)
    assert predict(*dense, CARD).bound == "products"
    code = Code(154, 196_608, 8, {"all": 9000}, {"all": 8000})
    assert predict(*dense, CARD, [code]).bound == "issue"
    assert predict(*dense, CARD, [replace(code, loop={"all": 130})]).bound == "products"


@pytest.mark.parametrize("precision", ["tf32", "tf32 rounded", "tf32 portable"])
def test_tf32_is_one_rate_however_its_operands_are_rounded(precision: str) -> None:
    torch.backends.cudnn.allow_tf32 = True  # the tile of TF32, on a card too
    given = [torch.empty(s, memory_format=torch.channels_last) for s in ((256, 256, 14, 14), (256, 256, 3, 3))]
    with kernels.backend("triton"), assume_card(H100), record() as found, torch.no_grad():
        kernels.conv2d(*given, padding=1)
    flops = 2.0 * 256 * 256 * 256 * 14 * 14 * 9
    changed = [replace(each, arguments={**each.arguments, "PRECISION": precision}) for each in found]
    floor = predict(changed, flops, CARD).floor
    assert floor == pytest.approx(predict(conv(256, 256, 14, 256, 3)[0], flops, CARD).floor * 2, rel=0.01)


def test_a_last_wave_takes_as_long_as_the_others() -> None:
    launches, flops = conv(256, 256, 14, 256, 3)
    (launch,) = launches

    def seconds(multiprocessors: int) -> float:
        rates = {name: rate * multiprocessors / 132 for name, rate in CARD.rates.items()}
        return predict(launches, flops, replace(CARD, multiprocessors=multiprocessors, rates=rates)).seconds

    assert seconds(launch.grid - 1) == pytest.approx(2 * seconds(launch.grid), rel=0.05)
    assert seconds(launch.grid - 1) == pytest.approx(seconds(launch.grid // 2), rel=0.05)


def test_a_call_that_copies_costs_its_copies() -> None:
    x, w = torch.empty(64, 64, 56, 56).half(), torch.empty(64, 64, 3, 3).half()
    seconds = []
    for form in (torch.contiguous_format, torch.channels_last):
        with kernels.backend("triton"), assume_card(H100), record() as found, torch.no_grad():
            kernels.conv2d(x.contiguous(memory_format=form), w, padding=1)
        seconds.append(predict(found, 2.0 * 64 * 64 * 64 * 56 * 56 * 9, CARD).seconds)
    assert seconds[0] > 1.3 * seconds[1]


def test_programs_that_a_multiprocessor_holds() -> None:
    assert Code(154, 196_608, 8, {}, {}).resident(CARD) == 1
    assert Code(64, 0, 4, {}, {}).resident(CARD) == 8
    assert Code(32, 0, 4, {}, {}).resident(CARD) == 16
    assert Code(32, 65_536, 4, {}, {}).resident(CARD) == 3
    assert Code(32, 65_536, 4, {}, {}).resident(LIMITS["sm_89"]) == 1
    assert Code(32, 0, 4, {}, {}).resident(LIMITS["sm_89"]) == 12


def test_cards_by_name() -> None:
    assert limits_of("NVIDIA H100 80GB HBM3") is CARD and limits_of("") is CARD
    assert limits_of("NVIDIA H200").card == "H200"  # type: ignore[union-attr]
    assert limits_of("NVIDIA GeForce GT 710") is None


def test_nothing_to_do() -> None:
    assert predict([], 0.0, CARD) == Prediction(START, "start", START)


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_every_card_and_pass(name: str) -> None:
    """Every kernel that a training step launches has a prediction on every card."""
    x = torch.empty(8, 32, 8, 8, requires_grad=True)
    w = torch.empty(48, 32, 3, 3, requires_grad=True)
    thin = torch.empty(32, 1, 3, 3, requires_grad=True)
    card = Card(H100.shared if LIMITS[name].wgmma else 99_000, LIMITS[name].wgmma)
    with kernels.backend("triton"), assume_card(card), record() as found:
        results: list[Tensor] = [kernels.conv2d_relu_pool2d(x, w, padding=1), kernels.conv2d(x, thin, groups=32)]
        for y in [*results, kernels.avg_pool2d(x, 2)]:
            y.backward(torch.empty_like(y))
    assert len(found) > 8
    for launch in found:
        made = predict([launch], 1e6, LIMITS[name])
        assert 0 < made.floor <= made.seconds < 1
