"""Every plan that can ship, on shapes that change its program: what `bench inspect --plans` compiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from bench.machine_code import pools
from bench.machine_code.compile import CARDS
from bench.machine_code.jobs import DTYPES, Job, distinct, products, tile_of
from cnn.errors import UserError
from kernels.common.device import Card, assume_card
from kernels.common.launch import Launch, record
from kernels.conv2d import forward, gradients
from kernels.conv2d.common.arguments import planning_card
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.cost import work_of
from kernels.conv2d.plans.few import is_far
from kernels.conv2d.plans.plan import PASSES, Plan, shipped

PRECISIONS = {**DTYPES, "ieee": torch.float32}
"""--dtype -> the dtype; float32 is TF32 unless it is called otherwise."""


def shape(
    n: int, c: int, size: tuple[int, int], k: int, taps: tuple[int, int], step: int = 1, dil: int = 1, groups: int = 1
) -> Conv2dGeometry:
    pads = tuple(dil * (t // 2) for t in taps for _ in range(2))
    return Conv2dGeometry(n, c, *size, k, *taps, (step, step), pads, (dil, dil), groups)  # type: ignore[arg-type]


SHAPES = {
    "128-256 3x3": shape(64, 128, (7, 7), 256, (3, 3)),
    "256-128 3x3/2": shape(64, 256, (8, 8), 128, (3, 3), 2),
    "35-37 2x3": shape(3, 35, (9, 7), 37, (2, 3)),
    "72-40 3x3": shape(3, 72, (9, 7), 40, (3, 3)),
    "72-40 1x1": shape(3, 72, (9, 7), 40, (1, 1)),
    "40-48 3x3": shape(3, 40, (9, 7), 48, (3, 3)),
    "40-48 1x3": shape(3, 40, (9, 7), 48, (1, 3)),
    "48-56 3x1": shape(3, 48, (9, 7), 56, (3, 1)),
    "56-40 3x3/2": shape(3, 56, (9, 7), 40, (3, 3), 2),
    "40-72 1x1/2": shape(3, 40, (9, 7), 72, (1, 1), 2),
    "136-152 2x2": shape(3, 136, (9, 7), 152, (2, 2)),
    "152-24 1x1": shape(3, 152, (9, 7), 24, (1, 1)),
    "24-152 3x3": shape(3, 24, (9, 7), 152, (3, 3)),
    "80-112 3x3 groups 2": shape(3, 80, (9, 7), 112, (3, 3), groups=2),
    "64-64 7x7": shape(4, 64, (14, 14), 64, (7, 7)),
    "64-64 3x3 groups 2": shape(4, 64, (14, 14), 64, (3, 3), groups=2),
    "64-64 3x3 dilated": shape(4, 64, (14, 14), 64, (3, 3), dil=2),
    "64-256 1x1": shape(4, 64, (14, 14), 256, (1, 1)),
    "64-256 1x1/2": shape(4, 64, (14, 14), 256, (1, 1), 2),
    "3-64 7x7/2": shape(4, 3, (56, 56), 64, (7, 7), 2),
    "3-64 3x3": shape(4, 3, (28, 28), 64, (3, 3)),
    "1-32 3x3": shape(4, 1, (28, 28), 32, (3, 3)),
    "1-64 5x5": shape(4, 1, (28, 28), 64, (5, 5)),
    "1-6 5x5": shape(4, 1, (28, 28), 6, (5, 5)),
    "6-16 5x5": shape(4, 6, (14, 14), 16, (5, 5)),
    "16-32 3x3": shape(4, 16, (14, 14), 32, (3, 3)),
    "20-24 3x3": shape(4, 20, (14, 14), 24, (3, 3)),
    "20-24 3x3/2": shape(4, 20, (14, 14), 24, (3, 3), 2),
    "128-128 3x3 groups 32": shape(4, 128, (14, 14), 128, (3, 3), groups=32),
    "512-512 3x3/2 groups 32": shape(4, 512, (14, 14), 512, (3, 3), 2, groups=32),
    "64-128 3x3 groups 8": shape(4, 64, (14, 14), 128, (3, 3), groups=8),
    "48-48 3x3 groups 16": shape(4, 48, (14, 14), 48, (3, 3), groups=16),
    "96-96 3x3 depthwise": shape(4, 96, (14, 14), 96, (3, 3), groups=96),
    "96-96 3x3/2 depthwise": shape(4, 96, (14, 14), 96, (3, 3), 2, groups=96),
    "96-96 5x5/2 depthwise": shape(4, 96, (14, 14), 96, (5, 5), 2, groups=96),
    "96-96 5x5 depthwise": shape(4, 96, (14, 14), 96, (5, 5), groups=96),
    "96-96 7x7 depthwise": shape(4, 96, (14, 14), 96, (7, 7), groups=96),
    "96-96 7x7/2 depthwise": shape(4, 96, (16, 16), 96, (7, 7), 2, groups=96),
    "96-96 3x3 depthwise dilated": shape(4, 96, (16, 16), 96, (3, 3), dil=2, groups=96),
    "96-96 3x3 depthwise dilated by 12": shape(4, 96, (32, 32), 96, (3, 3), dil=12, groups=96),
    "35-35 5x5 depthwise dilated by 3": shape(3, 35, (9, 7), 35, (5, 5), dil=3, groups=35),
    "96-96 9x9 depthwise": shape(4, 96, (14, 14), 96, (9, 9), groups=96),
    "35-35 7x7 depthwise": shape(3, 35, (9, 7), 35, (7, 7), groups=35),
    "35-35 3x3/4 depthwise": shape(3, 35, (9, 7), 35, (3, 3), 4, groups=35),
    "36-36 5x2/3 depthwise": shape(3, 36, (9, 12), 36, (5, 2), 3, groups=36),
    "96-96 3x3 groups 32": shape(4, 96, (14, 14), 96, (3, 3), groups=32),
    "96-192 3x3 groups 96": shape(4, 96, (14, 14), 192, (3, 3), groups=96),
    "128-256 3x3/2 groups 64": shape(4, 128, (14, 14), 256, (3, 3), 2, groups=64),
    "384-96 1x1 groups 8": shape(4, 384, (14, 14), 96, (1, 1), groups=8),
    "60-20 3x3 groups 5 dilated": shape(3, 60, (9, 7), 20, (3, 3), dil=2, groups=5),
    "256-16 3x3 groups 2": shape(3, 256, (9, 7), 8, (3, 3), groups=2),
}
"""Channels that are whole 16-byte chunks or not, one block of them or several, part of one; windows of more than 32
taps; steps, dilation, groups; too few channels for a matrix product."""
SLICED = ("128-256 3x3", "64-256 1x1", "256-128 3x3/2", "40-48 1x3", "6-16 5x5", "96-96 3x3 depthwise")
"""Of these also with maps that are slices of maps with eight channels more, as the parts of a concatenation are."""


def launches(
    which: str, g: Conv2dGeometry, dtype: torch.dtype, last: bool, plan: Plan, sliced: bool = False
) -> Iterator[Launch]:
    """What a pass launches with this plan: with bias, ReLU and code, and without."""
    x, w, bias, dy = _tensors(g, dtype, last, sliced)
    with record() as found, force_plan(which, plan):
        if which == "fprop":
            forward.fprop(x, w, bias, g, True)
            forward.fprop(x, w, None, g, False)
        elif which == "fprop_pool":
            forward.fprop_pool(x, w, bias, g, False, True)
            forward.fprop_pool(x, w, None, g, True, False)
        elif which == "dgrad":
            gradients.dgrad(dy, w, g, last)
        else:
            gradients.wgrad(dy, x, g, last)
    yield from found


@lru_cache(maxsize=1)
def _tensors(g: Conv2dGeometry, dtype: torch.dtype, last: bool, sliced: bool) -> tuple[Tensor, ...]:
    """x, w, bias and dy without memory: one set for all plans, since a recorded launch holds its tensors."""
    form = torch.channels_last if last else torch.contiguous_format
    more = 8 if sliced else 0
    shapes = (g.n, g.c + more, g.h, g.w), (g.k, g.c_group, g.r, g.s), (g.n, g.k + more, g.p, g.q)
    x, w, dy = (torch.empty(shape, dtype=dtype, device="meta", memory_format=form) for shape in shapes)
    return x[:, : g.c], w, torch.empty(g.k, dtype=dtype, device="meta"), dy[:, : g.k]


def far(g: Conv2dGeometry) -> Conv2dGeometry:
    """The same with so many images that offsets have 64 bits."""
    n = 2**31 // max(g.c * g.h * g.w, g.k * (g.p // 2) * (g.q // 2))
    return replace(g, n=(n // 64 + 1) * 64)


def plans(which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> Iterator[Plan]:
    """Those that can ship, each with its sum whole and, where it may be cut, in two parts."""
    for plan in shipped(which, g, itemsize, card):
        yield plan
        cut = plan.algorithm in ("gemm", "batch", "strips", "matmul") and not is_far(which, g, itemsize)
        if cut and work_of(plan.algorithm, which, g, itemsize, card, plan.packed, plan.block.block_m).split != "no":
            yield replace(plan, splits=2)


def jobs(target: str, precision: str, passes: tuple[str, ...] = PASSES) -> list[Job]:
    """The distinct programs of one card and precision."""
    return distinct(_every(target, precision, passes))


def _every(target: str, precision: str, passes: tuple[str, ...]) -> Iterator[Job]:
    dtype = PRECISIONS[precision]
    with assume_card(CARDS[target]), products(precision):
        shapes = [(name, each, False) for name, g in SHAPES.items() for each in (g, far(g))]
        shapes += [(f"{name} sliced", SHAPES[name], True) for name in SLICED]
        for (name, g, sliced), last, which in product(shapes, (True, False), passes):
            card = planning_card(torch.empty(0, dtype=dtype), which, g)
            if card.tf32x3 != (precision == "tf32x3"):
                continue
            if which == "fprop_pool" and shipped(which, g, dtype.itemsize, card)[0].algorithm == "direct":
                continue
            for plan in plans(which, g, dtype.itemsize, card):
                for launch in launches(which, g, dtype, last, plan, sliced):
                    layout = "channels_last" if last else "nchw"
                    yield Job(target, f"{which} {name}{_marks(launch)}", precision, layout, launch)
        if passes == PASSES:
            for last in (True, False):
                for name, launch in pools.launches(precision, dtype, last):
                    layout = "channels_last" if last else "nchw"
                    yield Job(target, f"pool {name}{_marks(launch)}", precision, layout, launch)


def part(found: list[Job], which: str) -> list[Job]:
    """Part I of OF equal ones, written "I/OF", each spread over all."""
    try:
        i, parts = map(int, which.split("/"))
    except ValueError:
        i = parts = 0
    if not 1 <= i <= parts:
        raise UserError(f"{which!r} is no part: write I/OF with 1 <= I <= OF")
    return found[i - 1 :: parts]


def faults(row: dict[str, Any]) -> list[str]:
    """What is wrong with a program."""
    if "error" in row:
        return ["does not compile"]
    loop, found = row["loop"], []
    if row["stack"]:
        found.append(f"{row['stack']} bytes of stack")
    if row["shared"] > CARDS[row["target"]].shared:
        found.append(f"shared memory beyond the card's {CARDS[row['target']].shared}")
    tensor_cores = sum(row["total"].get(kind, 0) for kind in ("wgmma", "mma", "tcgen05"))
    if row["dot"] and not tensor_cores and row["dtype"] in ("float16", "bfloat16", "float32", "tf32x3"):
        found.append("no tensor cores")
    # A box of several pixels is a matrix in registers only, which are loaded once for each block of K. Strips want one
    # operand there, which takes twice the loads where it is masked.
    several = row["tile"].get("BOX_ROWS", 1) * row["tile"].get("BOX_COLUMNS", 1) > 1
    most = loop.get("wgmma", 0) * (2 if str(row.get("kernel", "")).startswith("strips") else several)
    halves = row["dtype"] in ("float16", "bfloat16") and "tma_load" in loop and "wgmma" in loop
    if halves and loop.get("shared_load", 0) > most:
        found.append("operands through registers")
    narrow = 0 if row["target"].startswith("gfx") else _narrow(row)  # of AMD's code products alone are counted
    if narrow and _reads_wide(row):
        found.append(f"{narrow} copies of less than 16 bytes")
    return found


def _narrow(row: dict[str, Any]) -> int:
    """Copies of a thread in the main loop that are of less than 16 bytes, in the whole program where the main loop is
    written out. Packed groups read the weights on their diagonal one by one: there, how many of the map's are missing.
    """
    kinds, loop, tile = ("load", "async_copy"), row["loop"], row["tile"]
    groups = str(row.get("kernel", "")).startswith("groups_fprop")
    if "async_copy" in row["total"] and "async_copy" not in loop:
        loop = {kind: found for kind, found in row["total"].items() if kind.startswith("async_copy")}
    wide = int(sum(loop.get(f"{kind}_16", 0) for kind in kinds))
    if not groups:
        return int(sum(loop.get(kind, 0) for kind in kinds)) - wide
    size: int = tile["BLOCK_M"] * tile["BLOCK_K"] * PRECISIONS[row["dtype"]].itemsize
    return max(0, size // (16 * 32 * int(tile["num_warps"])) - wide)


def _reads_wide(row: dict[str, Any]) -> bool:
    """Whether channels are whole 16-byte chunks, and both tiles have such a chunk for every thread."""
    tile, itemsize = row["tile"], PRECISIONS[row["dtype"]].itemsize
    if (row["chunk"] or 0) * itemsize < 16:
        return False
    smallest: int = min(tile["BLOCK_M"], tile["BLOCK_N"]) * tile["BLOCK_K"] * itemsize
    return smallest >= 16 * 32 * int(tile["num_warps"])


def _marks(launch: Launch) -> str:
    """What of a launch its shape does not say."""
    found = launch.arguments
    words = {"split": found.get("SPLIT"), "bias": found.get("HAS_BIAS"), "64-bit": found.get("INDEX") is tl.int64}
    return "".join(f" {word}" for word, there in words.items() if there)


def _plan_of(launch: Launch) -> Iterator[tuple[str, str]]:
    """What a plan decides of a program: its tile, and how K is walked; of one without a tile what a lane holds."""
    yield from ((name, str(value)) for name, value in tile_of(launch).items())
    for name in ("FLAT", "WIDE", "ROWS", "COLS", "UNIT", "V", "UNROLL", "R", "KH", "K", "TAPS", "WANT_CODE"):
        if name in launch.arguments and (name == "FLAT" or "BLOCK_K" not in launch.arguments):
            yield name, str(launch.arguments[name])


def spread(found: list[Job], each: int) -> list[Job]:
    """At most `each` programs of every plan of a kernel, spread over what else changes them; not the same for all."""
    of_plan: dict[object, list[Job]] = {}
    for job in found:
        of_plan.setdefault((job.launch.kernel.__name__, *_plan_of(job.launch)), []).append(job)
    kept = []
    for i, some in enumerate(of_plan.values()):
        places = {(i + j * len(some) // each) % len(some) for j in range(each)}
        kept += [some[place] for place in sorted(places)]
    return kept
