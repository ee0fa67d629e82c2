"""What the machine can do at best, and what a case needs at least: the roofline of a row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench import networks
from bench.cases import Case, Layer
from bench.clock import synchronizer
from bench.problem import DTYPES


@dataclass(frozen=True)
class Limits:
    """Measured: bytes a second of a large copy (read and write counted), FLOPs a second of the fastest dense work."""

    bandwidth: float
    rates: dict[str, float]

    def seconds(self, flops: float, size: float, precision: str) -> tuple[float, str]:
        """The least time of that work, and which of the two limits it is."""
        compute = flops / self.rates[precision] if precision in self.rates else 0.0
        memory = size / self.bandwidth
        return (compute, "compute") if compute >= memory else (memory, "memory")


def _best(work: Callable[[], Any], device: torch.device, seconds: float = 0.4) -> float:
    """The shortest time of one call: a limit is what the machine can do, not what it did on average."""
    synchronize, best, end = synchronizer(device), math.inf, time.perf_counter() + seconds
    work()
    while time.perf_counter() < end:
        synchronize()
        start = time.perf_counter()
        for _ in range(4):
            work()
        synchronize()
        best = min(best, (time.perf_counter() - start) / 4)
    return best


def measure_limits(device: torch.device, precisions: tuple[str, ...]) -> Limits:
    """Copies and multiplies on this device, now, with the threads in force."""
    cuda = device.type == "cuda"
    source = torch.ones(1 << (28 if cuda else 25), device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * source.numel() * 4 / _best(partial(target.copy_, source), device)
    del source, target
    size, rates = 8192 if cuda else 1024, {}
    for precision in precisions:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        # Random values: a card draws less power, and runs faster, on zeros.
        a, b = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
        rates[precision] = 2 * size**3 / _best(partial(torch.matmul, a, b), device)
        if not cuda:
            rates[precision] = max(rates[precision], _convolution_rate(DTYPES[precision], device))
    return Limits(bandwidth, rates)


def _convolution_rate(dtype: torch.dtype, device: torch.device) -> float:
    """FLOPs a second of a convolution at its best: torch's matrix product does not use every CPU's widest vectors."""
    channels, side = 256, 32
    x = torch.randn(1, channels, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    w = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        seconds = _best(partial(F.conv2d, x, w, padding=1), device)
    return 2.0 * channels * channels * 9 * side * side / seconds


def work_of(case: Case) -> tuple[float, float]:
    """(FLOPs, bytes) of the case: a multiply-add is two FLOPs, a tensor that must be read or written counts once.

    Taps in the padding count as work, as everywhere in the literature. A network's bytes are its inputs, parameters and
    scores: what a kernel that keeps the rest on the chip would move.
    """
    if case.layer is None:
        return _network_work(case)
    x, w, y = _sizes(case.layer, case)
    forward = 2.0 * case.layer.macs * case.batch
    need_dx = not case.layer.from_image
    moved = {
        "inference": x + w + y,
        "fprop": x + w + y,
        "dgrad": y + w + x,
        "wgrad": x + y + w,
        # Forward reads x and writes y; backward reads dy, x and w, and writes the gradients.
        "training": (x + w + y) + (y + x + w) + (x if need_dx else 0) + w,
    }[case.work]
    times = (2 + need_dx) if case.work == "training" else 1
    return forward * times, moved * torch.finfo(DTYPES[case.precision]).bits / 8


def _sizes(found: Layer, case: Case) -> tuple[float, float, float]:
    """Elements of the input, the parameters and the output."""
    p, q = found.out
    if case.op == "conv2d_relu_pool2d":
        p, q = p // 2, q // 2
    weights = found.k * (found.c // found.groups) * found.kernel[0] * found.kernel[1]
    return case.batch * found.c * found.h * found.w, weights, case.batch * found.k_out * p * q


@cache
def _network_work(case: Case) -> tuple[float, float]:
    with torch.device("meta"):
        model = networks.BUILDERS[case.network]()
        x = torch.empty(case.batch, *networks.IMAGES[case.network])
    with FlopCounterMode(display=False) as counter:
        y = model(x)
        if case.work == "training":
            y.sum().backward()
    parameters = sum(p.numel() for p in model.parameters())
    passes = 3 if case.work == "training" else 1
    elements = x.numel() + y.numel() + passes * parameters
    return float(counter.get_total_flops()), elements * torch.finfo(DTYPES[case.precision]).bits / 8
