"""Every plan that can ship, run beside torch on small whole numbers: one wrong element fails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.machine_code.compile import CARDS
from bench.machine_code.jobs import products
from bench.machine_code.plans import PRECISIONS, SHAPES, plans
from kernels import backend
from kernels.common.device import assume_card
from kernels.conv2d import forward, gradients
from kernels.conv2d.common.arguments import planning_card
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.plan import PASSES, Plan, shipped
from tests.ptx.launch import Card, emulated


@dataclass(frozen=True)
class Job:
    """A pass of one of SHAPES, in a layout, by a plan."""

    which: str
    shape: str
    last: bool
    plan: Plan

    def __str__(self) -> str:
        tile = self.plan.tile
        sizes = f" {tile.block_m}x{tile.block_n}x{tile.block_k}, {tile.num_warps} warps" if tile else ""
        layout = "channels_last" if self.last else "nchw"
        return f"{self.which} {self.shape} {layout}: {self.plan.algorithm}{sizes}, {self.plan.splits} parts"


def jobs(target: str, precision: str, each: int) -> list[Job]:
    """Every plan of a card on `each` of the shapes and layouts that it may run, drawn with a fixed seed."""
    dtype, found = PRECISIONS[precision], dict[object, list[Job]]()
    with products(precision), assume_card(CARDS[target]):
        for (name, g), last, which in product(SHAPES.items(), (True, False), PASSES):
            card = planning_card(torch.empty(0, dtype=dtype), which, g)
            direct = which == "fprop_pool" and shipped(which, g, dtype.itemsize, card)[0].algorithm == "direct"
            if direct or card.tf32x3 != (precision == "tf32x3"):
                continue
            for plan in plans(which, g, dtype.itemsize, card):
                found.setdefault((which, plan), []).append(Job(which, name, last, plan))
    draw = random.Random(0)
    return [job for some in found.values() for job in draw.sample(some, min(each, len(some)))]


def wrong(card: Card, precision: str, job: Job) -> int:
    """How many elements are not exactly torch's."""
    dtype, g = PRECISIONS[precision], SHAPES[job.shape]
    x, w, bias, dy = data(job.shape, dtype, job.last)
    with backend("triton"), products(precision), emulated(card), force_plan(job.which, job.plan):
        if job.which == "fprop":
            got = [forward.fprop(x, w, bias, g, True), forward.fprop(x, w, None, g, False)]
        elif job.which == "fprop_pool":
            got = [*forward.fprop_pool(x, w, bias, g, False, True), forward.fprop_pool(x, w, None, g, True, False)[0]]
        elif job.which == "dgrad":
            got = [gradients.dgrad(dy, w, g, job.last)]
        else:
            got = [gradients.wgrad(dy, x, g, job.last)]
    exact = expected(job.which, job.shape, dtype)
    return sum(int((a != b.to(a.dtype)).sum()) for a, b in zip(got, exact, strict=True))


@lru_cache(maxsize=2)
def data(name: str, dtype: torch.dtype, last: bool) -> tuple[Tensor, ...]:
    """x, w, bias and dy of small whole numbers."""
    g, draw = SHAPES[name], torch.Generator().manual_seed(len(name))
    form = torch.channels_last if last else torch.contiguous_format

    def whole(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=draw).to(dtype).contiguous(memory_format=form)

    x, w, dy = whole(g.n, g.c, g.h, g.w), whole(g.k, g.c_group, g.r, g.s), whole(g.n, g.k, g.p, g.q)
    return x, w, torch.randint(-4, 5, (g.k,), generator=draw).to(dtype), dy


@lru_cache(maxsize=4)
def expected(which: str, name: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What `wrong` gets, from torch's float32, which is exact here."""
    g = SHAPES[name]
    x, w, bias, dy = (t.float() for t in data(name, dtype, True))
    window: Any = {"stride": g.stride, "padding": g.padding[::2], "dilation": g.dilation, "groups": g.groups}
    if which in ("dgrad", "wgrad"):
        wanted = (x if which == "dgrad" else w).requires_grad_()
        return torch.autograd.grad(F.conv2d(x, w, None, **window), wanted, dy)
    plain = F.conv2d(x, w, None, **window)
    biased = plain + bias[:, None, None]
    if which == "fprop":
        return biased.relu(), plain
    plain, biased = plain.to(dtype).float(), biased.to(dtype).float()
    return F.max_pool2d(biased.relu(), 2), _code(biased), F.avg_pool2d(plain.relu(), 2)


def _code(z: Tensor) -> Tensor:
    """Which of a 2x2 window is the first maximum; 4 where none is positive."""
    p, q = z.shape[2] // 2 * 2, z.shape[3] // 2 * 2
    parts = torch.stack([z[:, :, i:p:2, j:q:2] for i in (0, 1) for j in (0, 1)])
    best = parts.amax(0)
    return torch.where(best <= 0, 4, (parts == best).int().argmax(0))


def run(card: Card, precision: str, work: list[Job]) -> Iterator[str]:
    """What is wrong, a line for each job that is, as it comes."""
    for job in work:
        try:
            count = wrong(card, precision, job)
            if count:
                yield f"{card.target} {precision} {job}: {count} elements wrong"
        except Exception as error:  # the line says what happened; the caller counts it as a failure
            yield f"{card.target} {precision} {job}: {type(error).__name__}: {str(error)[:200]}"
