"""Predicted times of the fused LeNet from the instructions of its machine code. Never a measurement.

A program's round takes its instructions a warp times the clocks between two of them: ALONE where a warp has its
scheduler for itself, and SHARED for each warp where several share one. Both are assumptions, as is that instructions
are the limit; the tensor cores' rate and the images' own bytes are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from kernels.common.launch import Launch
from kernels.common.roofline import START, Limits, Prediction
from kernels.lenet import plan
from kernels.lenet.geometry import TAPS

ALONE, SHARED = 4.0, 1 / 0.65
SCHEDULERS = 4
INFERENCE = {
    "float32": {1: 38_050, 4: 10_100, 16: 5_250},
    "tf32": {1: 31_240, 4: 6_910, 16: 3_500},
    "half": {1: 29_410, 4: 4_040, 16: 2_330},
}
"""Warp instructions an image of forward_kernel for 28 x 28 pixels on sm_90, by images a program takes at a time: the
table in README.md, which `python -m bench inspect --lenet` prints."""
COUNTED = 14 * 14
"""Pixels after the first pool of the images that were counted."""


def seconds(n: int, images: int, warps: int, resident: int, instructions: float, limits: Limits) -> float:
    """Of a kernel whose programs take `images` of n at a time, by warp instructions an image; its start apart."""
    blocks = ceil(n / images)
    resident = min(resident, plan.RESIDENT, ceil(blocks / limits.multiprocessors))
    rounds = ceil(blocks / (limits.multiprocessors * resident))
    clocks = max(ALONE, resident * warps / SCHEDULERS * SHARED)
    return rounds * images * instructions / warps * clocks / limits.clock


def products(pooled1: tuple[int, int], pooled2: tuple[int, int]) -> int:
    """Multiply-adds an image of the two forward window products, zeros included: windows x patch x columns."""
    return pooled1[0] * ceil(pooled1[1] / 2) * 48 * 64 + pooled2[0] * pooled2[1] * 288 * 64


def predict(launches: Sequence[Launch], limits: Limits) -> Prediction:
    """The predicted time of an inference by its launches."""
    forward = launches[-1]
    a: dict[str, Any] = forward.arguments
    rows, cols = ((a[side] + 2 * a["PAD"] - TAPS + 1) // 2 for side in "HW")
    half = a["DTYPE"].primitive_bitwidth == 16
    kind = "half" if half else "tf32" if a["CONV_PRECISION"].removesuffix(" portable") == "tf32" else "float32"
    count = INFERENCE[kind][a["IMAGES"]] * rows * cols / COUNTED
    issue = seconds(a["n"], a["IMAGES"], forward.options["num_warps"], plan.RESIDENT, count, limits)
    rate = limits.rates["half" if half else "tf32"] / (3 if kind == "float32" else 1)
    second = (rows - TAPS + 1) // 2, (cols - TAPS + 1) // 2
    multiplied = 2 * a["n"] * products((rows, cols), second) / rate
    moved = a["x_ptr"].numel() * a["x_ptr"].element_size() / limits.bandwidth
    waiting = {"issue": issue, "products": multiplied, "memory": moved}
    bound = max(waiting, key=lambda name: waiting[name])
    return Prediction(waiting[bound] + len(launches) * START, bound, max(multiplied, moved))
