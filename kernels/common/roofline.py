"""Predicted times: what a card's limits leave of a launch's bytes, products and instructions. Never a measurement.

    time = max(bytes / bandwidth, waves * wave) + START
    wave = FILL + steps * max(programs * max(products, instructions), what memory takes to answer)

A step multiplies one tile of BLOCK_M x BLOCK_N x BLOCK_K; a wave is as many programs as the card holds at once, those
of a multiprocessor sharing its tensor cores, and a multiprocessor without a program waits for the others. How near
tiles come to the tensor cores' rate is a guess by analogy (hand-written H100 products without clusters: 128 x 256 tiles
72 %, 128 x 128 62 %); expect +-20 % where a matrix product is the limit, and less where memory is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.common.launch import Launch, tensors_of
from kernels.common.precision import precision_of
from kernels.common.steps import inside, step_of, steps_of

FILL, STEP, ANSWER = 2000.0, 60.0, 570.0
"""Cycles: a program's first tiles and last products; a step's barrier; memory's answer, shared by the stages."""
FETCH = 80.0
"""Fetching 128 bytes of a row of a tile costs as much as multiplying them with this many columns."""
REACH = 1.41
"""Share of the tensor cores' rate that a tile without borders would reach, fitted to the two tiles named above."""
STREAM = 0.88
"""Share of a copy's bandwidth that a kernel with borders and windows reaches."""
SCALAR = 0.6
"""Share of the rate of plain multiply-adds that a kernel reaches, where its instructions are not known."""
START = 2e-6
"""Seconds from one kernel to the next."""


@dataclass(frozen=True)
class Limits:
    """What a card can do: multiprocessors, cycles a second, bytes a second of a copy, FLOPs a second by precision.

    rates: of matrix products in half, tf32, float32 ("ieee", by plain multiply-adds) and float64; scalar: of plain
    multiply-adds. wgmma: whether tiles of fewer than 64 rows miss the fast instruction. shared, warps: what a
    multiprocessor holds, in KiB and in warps.
    """

    card: str
    multiprocessors: int
    clock: float
    bandwidth: float
    rates: dict[str, float]
    scalar: float
    wgmma: bool = False
    shared: int = 228
    warps: int = 64


def _card(card: str, sms: int, ghz: float, tb: float, rates: tuple[float, ...], scalar: float, **more: Any) -> Limits:
    """tb: TB/s; rates, scalar: TFLOP/s."""
    names = ("half", "tf32", "float32", "float64")
    by_name = {name: rate * 1e12 for name, rate in zip(names, rates, strict=True)}
    return Limits(card, sms, ghz * 1e9, tb * 1e12, by_name, scalar * 1e12, **more)


# H100: a measured 8192^3 product and copy. The others: 80 % of the data sheet's rates, 90 % of its bandwidth.
LIMITS = {
    "sm_80": _card("A100", 108, 1.41, 1.83, (250, 125, 15.6, 15.6), 15.6, shared=164),
    "sm_86": _card("RTX 3090", 82, 1.70, 0.84, (57, 28, 28, 0.45), 28, shared=100, warps=48),
    "sm_89": _card("RTX 4090", 128, 2.52, 0.91, (132, 66, 66, 1.0), 66, shared=100, warps=48),
    "sm_90": _card("H100", 132, 1.755, 3.0, (798, 400, 54, 54), 54, wgmma=True),
    "sm_90 H200": _card("H200", 132, 1.755, 4.3, (798, 400, 54, 54), 54, wgmma=True),
    "sm_100": _card("B200", 148, 1.85, 7.2, (1800, 900, 60, 30), 60, wgmma=True),
    "sm_120": _card("RTX 5090", 170, 2.41, 1.6, (167, 84, 84, 1.3), 84, shared=100, warps=48),
    "gfx942": _card("MI300X", 304, 2.1, 4.8, (1045, 523, 130, 130), 130, shared=64, warps=32),
}


def limits_of(name: str) -> Limits | None:
    """The limits of the card whose name contains that of one above; an H100's for the unnamed card; else None."""
    if not name:
        return LIMITS["sm_90"]
    return next((limits for limits in LIMITS.values() if limits.card in name), None)


@dataclass(frozen=True)
class Code:
    """What the machine code of a launch says: registers and bytes of stack a thread, shared bytes a program, and its
    instructions by kind, of all and of the main loop."""

    registers: int
    shared: int
    num_warps: int
    total: dict[str, int]
    loop: dict[str, int]
    stack: int = 0

    def resident(self, limits: Limits) -> int:
        """Programs that a multiprocessor holds, by its 64 Ki registers, its shared memory and its warps."""
        by_registers = 65536 // (32 * self.num_warps * max(8, -(-self.registers // 8) * 8))
        by_shared = limits.shared * 1024 // (self.shared + 1024)
        return max(1, min(by_registers, by_shared, limits.warps // self.num_warps, 32))


@dataclass(frozen=True)
class Prediction:
    """Predicted seconds; what bounds them; the least that bytes and products would take at the card's limits."""

    seconds: float
    bound: str
    floor: float

    @property
    def share(self) -> float:
        """Of the roofline."""
        return self.floor / self.seconds


def predict(launches: Sequence[Launch], flops: float, limits: Limits, codes: Sequence[Code | None] = ()) -> Prediction:
    """The predicted time of a call: its launches one after another.

    flops: of the call, which its products or else its largest launch compute. codes: of the launches, where known.
    """
    given = list(codes) or [None] * len(launches)
    products = [launch for launch in launches if "BLOCK_K" in launch.arguments]
    main = max(products or launches, key=_bytes, default=None)
    pairs = zip(launches, given, strict=True)
    parts = [_launch(each, flops if each is main else 0.0, limits, code) for each, code in pairs]
    if not parts:
        return Prediction(START, "start", START)
    longest = max(parts, key=lambda p: p.seconds)
    return Prediction(sum(p.seconds for p in parts), longest.bound, max(p.floor for p in parts))


def _launch(launch: Launch, flops: float, limits: Limits, code: Code | None) -> Prediction:
    floor = _bytes(launch) / limits.bandwidth
    # A handful of programs cannot ask for all that memory can give.
    moved = floor / STREAM * max(1.0, limits.multiprocessors / 2 / launch.grid)
    busy, bound = 0.0, "memory"
    if flops and "BLOCK_K" in launch.arguments:
        busy, bound = _products(launch, limits, code)
        floor = max(floor, flops * inside(launch.arguments) / _rate(launch, limits))
    elif flops or code is not None:
        busy, bound = _plain(launch, flops, limits, code)
        floor = max(floor, flops / limits.scalar)
    return Prediction(max(moved, busy) + START, bound if busy > moved else "memory", floor)


def _products(launch: Launch, limits: Limits, code: Code | None) -> tuple[float, str]:
    """Seconds of a grid of tiles, and what a step waits for."""
    a = launch.arguments
    m, n, k = (a[f"BLOCK_{axis}"] for axis in "MNK")
    step, steps = step_of(launch), steps_of(launch)
    joint = step.joint
    rate = _rate(launch, limits) / 2 / limits.multiprocessors / limits.clock
    slow = 2.0 if limits.wgmma and m < 64 else 1.0
    reached = min(1.0, REACH * joint * m * n / (joint * m * n + FETCH * (step.left * m + step.right * n)))
    tensor = joint * m * n * k * slow / rate / reached
    issue = 0.0 if code is None else code.loop.get("all", 0) * code.num_warps / 4
    busy = max(tensor, issue)
    answer = ANSWER / launch.options.get("num_stages", 2)
    resident = code.resident(limits) if code else (1 if joint * m * n >= 128 * 128 else 2)
    full, rest = divmod(math.ceil(launch.grid / limits.multiprocessors), resident)

    def wave(programs: int) -> float:
        return FILL + steps * max(programs * busy, STEP + max(answer, busy)) if programs else 0.0

    waiting = {"products": tensor, "issue": issue, "latency": answer / resident}
    bound = max(waiting, key=lambda name: waiting[name])
    return (full * wave(resident) + wave(rest)) / limits.clock, bound


def _plain(launch: Launch, flops: float, limits: Limits, code: Code | None) -> tuple[float, str]:
    """Seconds of a kernel without a matrix product: by its instructions where they are known."""
    if code is None:
        return flops / limits.scalar / SCALAR, "multiply-adds"
    fma = code.loop.get("fma", 0)
    times = max(1.0, flops / 2 / (32 * code.num_warps * launch.grid * fma)) if flops and fma else 1.0
    instructions = code.total.get("all", 0) + (times - 1) * code.loop.get("all", 0)
    cycles = math.ceil(launch.grid / limits.multiprocessors) * instructions * code.num_warps / 4
    return cycles / limits.clock, "issue"


def _bytes(launch: Launch) -> float:
    """Every tensor of the launch once."""
    tensors = {t.data_ptr() or id(t): t for t in tensors_of(launch.arguments)}
    return float(sum(t.numel() * t.element_size() for t in tensors.values()))


def _rate(launch: Launch, limits: Limits) -> float:
    """FLOPs a second of a launch's products; TF32 in three parts does three."""
    dtype = next(tensors_of(launch.arguments)).dtype
    if dtype == torch.float32:
        how = launch.arguments["PRECISION"]
        return limits.rates["tf32"] / 3 if how == "tf32x3" else limits.rates["float32" if how == "ieee" else "tf32"]
    return limits.rates[precision_of(dtype.itemsize)]
