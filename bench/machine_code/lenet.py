"""Predicted times of the fused LeNet: warp instructions an image out of its machine code, over a card's issue rate.

kernels/lenet/predicted.py says how instructions become a time, and what that assumes. Never a measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import torch
from torch import Tensor

import kernels
from bench.machine_code.compile import compile_launch
from bench.machine_code.executed import Loop, loops
from bench.machine_code.read import read
from bench.networks import IMAGES, LENETS, build
from kernels.common.launch import Launch, record
from kernels.common.roofline import LIMITS, START, Code
from kernels.lenet import lenet, plan
from kernels.lenet.geometry import LeNetGeometry
from kernels.lenet.predicted import products, seconds
from kernels.lenet.style import WGRAD_TILES

BATCH = 4096
FORMS = {
    "lenet": (("1", 1), ("16", 16), ("256", 256), ("4,096", 4096), ("65,536", 65536)),
    "lenet_kernelbench": (("4,096 of 32x32, 20 classes", 4096),),
}
"""Networks of bench/networks.py, each with the rows of its batches."""
ARITHMETIC = ("float32", "flags", "float16")
WORKS = {"inference": ("forward",), "training": ("forward, training", "backward", "wgrad")}
Stage = tuple[str, bool, float, float]


@dataclass(frozen=True)
class Cost:
    """images: a program takes at a time; stages: warp instructions an image of all its warps, by name."""

    kernel: str
    images: int
    warps: int
    resident: int
    stages: dict[str, float]

    @property
    def instructions(self) -> float:
        """An image's, of all warps."""
        return sum(self.stages.values())

    def seconds(self, n: int, limits: Any) -> float:
        """Predicted for n images, the start of the kernel apart."""
        return seconds(n, self.images, self.warps, self.resident, self.instructions, limits)


def network(form: str, n: int) -> tuple[Tensor, list[torch.nn.Parameter], int]:
    """Images, parameters and padding of one of FORMS."""
    return torch.empty(n, *IMAGES[form]), list(build(form).parameters()), LENETS[form]


def launches(arithmetic: str, images: int, form: str = "lenet", style: str = "max-relu") -> list[Launch]:
    """Those of inference, then those of a training step that are not among them. style: pool and activation."""
    x, parameters, padding = network(form, BATCH)
    pool, activation = style.split("-")
    options: Any = {"padding": padding, "pool": pool, "activation": activation}
    options["arithmetic"] = None if arithmetic == "flags" else arithmetic
    with plan.force_images(images), kernels.backend("triton"), record() as found:
        with torch.no_grad():
            lenet(x, parameters, **options)
        y = lenet(x, parameters, **options)
        torch.autograd.grad(y, parameters, torch.zeros_like(y))
    return list({(launch.kernel.__name__, launch.arguments.get("KEEP")): launch for launch in found}.values())


def _stages(a: dict[str, Any], kernel: str, images: int) -> list[Stage]:
    """(name, whether the compiler may have unrolled its loop, the loop's rounds an image, rounds of a loop inside)."""
    if kernel == "backward_kernel":
        h, w, f1, f2 = a["H1"], a["W1"], a["F1"], a["F2"]
        features = a["C2"] * ((h - 4) // 2) * ((w - 4) // 2)
        windows = ceil(images * ceil(h / 2) * ceil(w / 4) / a["BLOCK_M"]) / images
        return [
            ("fc3, fc2", True, ceil(f2 / a["BLOCK_K"]) / images, 1),
            ("fc1", True, ceil(features / a["BLOCK_N"]) / images, ceil(f1 / a["BLOCK_K"])),
            ("conv2", False, windows, 768 / a["BLOCK_C"]),
        ]
    if "H1" in a:
        h, w = a["H1"], a["W1"]
    else:
        h, w = ((a[side] + 2 * a["PAD"] - 4) // 2 for side in "HW")
    pixels = ((h - 4) // 2) * ((w - 4) // 2)
    inputs = (a["C2"] * pixels, a["F1"], a["F2"])
    if kernel == "wgrad_kernel":
        rows = [("fc", False, ceil(k / 64) / a["BLOCK_ROWS"], 1.0) for k in inputs]
        pairs = _steps(h, ceil(w / 2), a["BLOCK_M"])
        windows = _steps((h - 4) // 2, (w - 4) // 2, a["BLOCK_M"])
        return [("conv", False, pairs, 1.0), ("conv", False, WGRAD_TILES * windows, 1.0), *rows]
    padded = ceil(images * (2 * h + 4) * (ceil(w / 2) * 4 + 4) / 1024) / images
    first = (ceil(images * h * ceil(w / 2) / a["BLOCK_1"]) / images, 3.0)
    second = (ceil(images * pixels / a["BLOCK_2"]) / images, 288 / a["BLOCK_C"])
    return [
        *([("padding", False, padded, 1.0)] if a["PREPARED"] else []),
        ("conv1", False, *first),
        ("conv2", False, *second),
        *(("fc", True, ceil(k / a["BLOCK_K"]) / images, 1.0) for k in inputs),
    ]


def _steps(rows: int, columns: int, block: int) -> float:
    """Steps an image of the weight gradient over its windows: a row, or a part of one, of several images each."""
    parts = ceil(columns / block)
    return rows * parts / (block // ceil(columns / parts))


def cost(launch: Launch, images: int, target: str) -> Cost:
    """The instructions of a launch with that many images a program."""
    compiled, name = compile_launch(launch, target), launch.kernel.__name__
    report = read(compiled)
    stages = _stages(launch.arguments, name, images)
    # A persistent kernel has its stages inside the loop over its images.
    top = 0 if name == "wgrad_kernel" else 1
    found = loops(compiled)
    missing = len(stages) - sum(loop.depth == top for loop in found)
    for stage in sorted((s for s in stages if s[1]), key=lambda s: s[2])[:missing]:
        stages.remove(stage)
    assert len(stages) == sum(loop.depth == top for loop in found), f"{name}: loops that are no stage"
    counted: dict[str, float] = {}
    following = iter(stages)
    label, outer, inner = "rest", 1 / images, 1.0
    for loop in found:
        if loop.depth == top:
            label, _, outer, inner = next(following)
        rounds = 1 / images if loop.depth < top else outer * (inner if loop.depth > top else 1)
        times = rounds / _unrolled(loop, label, launch.arguments)
        key = label if loop.depth >= top else "rest"
        counted[key] = counted.get(key, 0.0) + loop.own * times * report.num_warps
    code = Code(report.registers, report.shared, report.num_warps, report.total, report.loop)
    shown = name.removesuffix("_kernel") + (", training" if launch.arguments.get("KEEP") else "")
    resident = code.resident(LIMITS[compiled.target])
    return Cost(shown, images, report.num_warps, resident, counted)


def _unrolled(loop: Loop, label: str, a: dict[str, Any]) -> int:
    """How many rounds the compiler put into one: a round of padding has four loads, one that copies ahead two commits,
    and another round of a convolution the products of 64 rows by BLOCK_C."""
    if label == "padding":
        return max(1, loop.kinds["LDG"] // 4)
    if loop.depth == 0 or (loop.depth == 1 and label.startswith("conv")):
        return 1
    if loop.kinds["LDGDEPBAR"]:
        return max(1, loop.kinds["LDGDEPBAR"] // 2)
    if not loop.kinds["HGMMA"]:
        return 1
    half = a["DTYPE"].primitive_bitwidth == 16
    products: int = a["BLOCK_C"] // (16 if half else 8) * (3 if not half and a["CONV_PRECISION"] == "tf32x3" else 1)
    return max(1, loop.kinds["HGMMA"] // products)


def costs(arithmetic: str, target: str, form: str, images: int) -> dict[str, Cost]:
    """By kernel."""
    found = {}
    for launch in launches(arithmetic, images, form):
        if launch.kernel.__name__ not in ("pack_kernel", "reduce_kernel"):
            made = cost(launch, images, target)
            found[made.kernel] = made
    return found


def _products(g: LeNetGeometry) -> dict[str, int]:
    """Multiply-adds an image of the convolutions' window products, zeros included: windows x patch x columns."""
    rows, cols = g.pooled1
    forward = products(g.pooled1, g.pooled2)
    backward = ceil(rows / 2) * ceil(cols / 4) * 768 * 64
    steps = _steps(rows, ceil(cols / 2), 32) + WGRAD_TILES * _steps(*g.pooled2, 32)
    wgrad = ceil(steps * 32 * 64 * 64)
    return {"forward": forward, "forward, training": forward, "backward": backward, "wgrad": wgrad}


def predicted(n: int, works: tuple[str, ...], by: dict[str, Cost], arithmetic: str, form: str, limits: Any) -> float:
    """Seconds of the kernels `works` for n images, their starts and those of pack_kernel and reduce_kernel included."""
    g = LeNetGeometry.of(*network(form, n))
    starts = 5 if len(works) > 1 else 1 if by[works[0]].images == plan.LATENCY else 2
    rate = limits.rates["half" if arithmetic == "float16" else "tf32"] / (3 if arithmetic == "float32" else 1)
    multiplied = _products(g)
    busy = sum(max(by[kernel].seconds(n, limits), 2 * n * multiplied[kernel] / rate) for kernel in works)
    return float(max(busy, n * g.h * g.w * 4 / limits.bandwidth) + starts * START)


def tables(forms: Iterable[str] = FORMS) -> Iterator[str]:
    """Markdown: instructions an image, and predicted times by batch."""
    target = "sm_90"
    limits = LIMITS[target]
    found = cache(lambda form, images: {a: costs(a, target, form, images) for a in ARITHMETIC})
    if "lenet" in forms:
        yield f"| warp instructions an image, {limits.card} | images | {' | '.join(ARITHMETIC)} |"
        yield "|---|---|" + "---|" * len(ARITHMETIC)
        for images in (plan.LATENCY, plan.MIDDLE, plan.THROUGHPUT):
            by = found("lenet", images)
            for kernel in by[ARITHMETIC[0]]:
                yield f"| {kernel} | {images} | {' | '.join(_cell(by[a][kernel]) for a in ARITHMETIC)} |"
        yield ""
    head = [f"{work}, {arithmetic}" for work in WORKS for arithmetic in ARITHMETIC]
    yield f"| predicted, {limits.card}, batch | {' | '.join(head)} |"
    yield "|---|" + "---|" * len(head)
    for form in forms:
        for label, n in FORMS[form]:
            by = found(form, plan.images_at_a_time(n, limits.multiprocessors))
            times = [predicted(n, works, by[a], a, form, limits) for works in WORKS.values() for a in ARITHMETIC]
            yield f"| {label} | {' | '.join(f'{seconds * 1e6:,.0f} us' for seconds in times)} |"


def _cell(found: Cost) -> str:
    parts = ", ".join(f"{name} {round(n, -1):,.0f}" for name, n in found.stages.items())
    return f"**{round(found.instructions, -1):,.0f}** ({parts})"
