"""The legal plans of a target in the order in which they promise to be fast, by the model and by machine code."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import kernels
from bench.limits import work_of
from bench.machine_code.compile import TARGETS, compile_launch
from bench.machine_code.read import read
from bench.problem import DTYPES
from bench.run import set_precision
from bench.tune import Target
from bench.tune.drive import named
from kernels.common.device import Card, assume_card
from kernels.common.launch import Launch, record
from kernels.common.roofline import Code, Limits, Prediction, predict
from kernels.conv2d import autograd
from kernels.conv2d.common.arguments import planning_card
from kernels.conv2d.plans.choose import force_plan, is_legal
from kernels.conv2d.plans.cost import work_of as product_of
from kernels.conv2d.plans.plan import Plan, rule, shipped

WARPS, STAGES = (4, 8), (2, 3, 4)


@dataclass(frozen=True)
class Ranked:
    """A plan with its predicted time; code: its main launch's, where it has been compiled."""

    plan: Plan
    prediction: Prediction
    code: Code | None = None

    def __str__(self) -> str:
        found = self.prediction
        time = f"predicted {found.seconds * 1e6:.1f} us, {found.share:.0%} of the roofline, {found.bound}"
        text = f"{named(self.plan)}: {time}"
        return text + (f", {self.code.registers} registers, {self.code.shared} shared" if self.code else "")


def card_for(target: Target, card: Card) -> Card:
    """The card as a plan for this target sees it."""
    with assume_card(card):
        return planning_card(torch.empty(0, dtype=DTYPES[target.precision]), target.which, target.geometry)


def plans(target: Target, card: Card) -> list[Plan]:
    """Every legal plan worth a look: what can ship, with other warps and stages, in the parts that fill the card."""
    g, size, seen = target.geometry, target.itemsize, card_for(target, card)
    found: dict[Plan, None] = {rule(target.which, g, size, seen): None}
    for base in shipped(target.which, g, size, seen):
        if base.tile is None:
            continue
        tile = base.tile
        for warps in dict.fromkeys((tile.num_warps, *WARPS)):
            for stages in dict.fromkeys((tile.num_stages, *STAGES)):
                shaped = replace(base, tile=replace(tile, num_warps=warps, num_stages=stages))
                if is_legal(shaped, target.which, g, size, seen):
                    found |= {replace(shaped, splits=parts): None for parts in _parts(target, shaped, seen)}
    return list(found)


def _parts(target: Target, plan: Plan, card: Card) -> list[int]:
    assert plan.tile is not None
    work = product_of(
        plan.algorithm, target.which, target.geometry, target.itemsize, card, plan.packed, plan.tile.block_m
    )
    return work.parts(plan.tile.block_m, plan.tile.block_n, plan.tile.block_k)


def launches(target: Target, plan: Plan, card: Card, channels_last: bool | None = None) -> list[Launch]:
    """What a call with this plan launches. Its tensors, in channels_last where the plan wants that (or as told), are
    not touched."""
    nhwc = plan.packed if channels_last is None else channels_last
    g, dtype = target.geometry, DTYPES[target.precision]
    form = torch.channels_last if nhwc else torch.contiguous_format

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, memory_format=form)

    x, w, dy = (g.n, g.c, g.h, g.w), (g.k, g.c_group, g.r, g.s), (g.n, g.k, g.p, g.q)
    numbers: Any = (g.stride, g.padding, g.dilation, g.groups, False)
    forced = force_plan(target.which, plan)
    with kernels.backend("triton"), assume_card(card), record() as found, torch.no_grad(), forced:
        if target.which == "fprop":
            autograd.conv(empty(*x), empty(*w), None, *numbers, False)
        elif target.which == "fprop_pool":
            more = (g.stride, (g.padding[0], g.padding[2]), g.dilation, g.groups)
            kernels.conv2d_relu_pool2d(empty(*x), empty(*w), None, *more)
        elif target.which == "dgrad":
            autograd.dgrad(empty(*dy), empty(*w), list(x), *numbers, nhwc)
        else:
            autograd.wgrad(empty(*dy), empty(*x), list(w), *numbers, nhwc)
    return found


def main_launch(found: Sequence[Launch]) -> Launch:
    """The one that multiplies."""
    return next((launch for launch in found if "BLOCK_K" in launch.arguments), max(found, key=lambda each: each.grid))


def rank(
    target: Target, chosen: Sequence[Plan], card: Card, limits: Limits, codes: Sequence[Code | None] = ()
) -> list[Ranked]:
    """The plans, fastest first by prediction; equals keep their order."""
    flops = work_of(next(iter(target.cases().values())))[0]
    given = list(codes) or [None] * len(chosen)
    ranked = []
    for plan, code in zip(chosen, given, strict=True):
        found = launches(target, plan, card)
        main = main_launch(found)
        by_launch = [code if launch is main else None for launch in found]
        ranked.append(Ranked(plan, predict(found, flops, limits, by_launch), code))
    return sorted(ranked, key=lambda each: each.prediction.seconds)


_work: list[tuple[Target, Plan, Card, str]] = []


def coded(launch: Launch, arch: str) -> Code:
    """What the machine code of a launch says; raises what the compiler raises."""
    found = read(compile_launch(launch, arch))
    return Code(found.registers, found.shared, found.num_warps, found.total, found.loop, found.stack)


def _compile(index: int) -> Code | str:
    target, plan, card, arch = _work[index]
    try:
        found = coded(main_launch(launches(target, plan, card)), arch)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    if found.stack or found.shared > card.shared:
        return f"stack {found.stack}, {found.shared} bytes of shared memory"
    return found


def shortlist(ranked: Sequence[Ranked], count: int) -> list[Ranked]:
    """The first `count`: half of them the best of every algorithm and then of different tiles, since the model knows
    least of what sets algorithms apart, and warps and stages change little in it and much on a card; then the others in
    order."""
    algorithms: dict[Any, Ranked] = {}
    shapes: dict[Any, Ranked] = {}
    for each in ranked:
        algorithms.setdefault(each.plan.algorithm, each)
        shapes.setdefault(_block(each.plan), each)
    best = [*algorithms.values(), *(each for each in shapes.values() if each not in algorithms.values())]
    first = best[: -(-count // 2)]
    return [*first, *(each for each in ranked if each not in first)][:count]


def prune(
    target: Target, found: Sequence[Ranked], card: Card, limits: Limits, arch: str, processes: int
) -> list[Ranked]:
    """The plans whose machine code is clean on `arch`, each program once, ranked again by it. Processes fork, and touch
    no card."""
    global _work
    _work = [(target, each.plan, card, arch) for each in found]
    if processes > 1:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            codes = pool.map(_compile, range(len(_work)), chunksize=1)
    else:
        codes = [_compile(index) for index in range(len(_work))]
    # Stages that a kernel does not use give the same program again, which would be timed twice.
    clean: dict[Any, tuple[Plan, Code]] = {}
    for each, code in zip(found, codes, strict=True):
        if isinstance(code, Code):
            clean.setdefault((_block(each.plan), each.plan.splits, repr(code)), (each.plan, code))
    return rank(target, [plan for plan, _ in clean.values()], card, limits, [code for _, code in clean.values()])


def _block(plan: Plan) -> tuple[Any, ...]:
    """Algorithm and sizes of a plan."""
    tile = plan.tile
    return plan.algorithm, tile and (tile.block_m, tile.block_n, tile.block_k)


@dataclass(frozen=True)
class Promising:
    """Every plan of a target, the first of them, and those of these whose code is clean, ranked again."""

    every: list[Ranked]
    first: list[Ranked]
    clean: list[Ranked]


def promising(target: Target, card: Card, limits: Limits, arch: str, most: int, processes: int) -> Promising:
    """What to try for a target, `most` of its plans compiled: none where no program can be made for `arch`.

    torch's flags are from here on those of the target's precision, which decide about plans and programs.
    """
    set_precision(target.precision)
    every = rank(target, plans(target, card), card, limits)
    first = shortlist(every, most)
    return Promising(every, first, prune(target, first, card, limits, arch, processes) if arch in TARGETS else [])
