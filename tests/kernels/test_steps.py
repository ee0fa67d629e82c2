"""What a launch says of its programs' steps is what they do: the products that the interpreter makes, and no guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from triton.runtime.interpreter import InterpreterBuilder

from kernels.common.device import H100, INTERPRET, assume_card
from kernels.common.launch import Launch, record, start
from kernels.common.steps import step_of, steps_of, work_of_step
from kernels.conv2d import forward, gradients
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.cost import work_of
from kernels.conv2d.plans.plan import PASSES, Plan, shipped

DTYPE = torch.float16


def shape(n: int, c: int, size: tuple[int, int], k: int, taps: tuple[int, int], **more: int) -> Conv2dGeometry:
    """Padded so that a stride of 1 keeps the size; step, dil, groups."""
    step, dil = more.get("step", 1), more.get("dil", 1)
    pads = (dil * (taps[0] // 2),) * 2 + (dil * (taps[1] // 2),) * 2
    return Conv2dGeometry(n, c, *size, k, *taps, (step, step), pads, (dil, dil), more.get("groups", 1))


CASES = {
    "gather": ("gemm", shape(1, 40, (7, 6), 48, (3, 2)), 1),
    "gather, stride": ("gemm", shape(2, 72, (7, 5), 40, (3, 3), step=2), 1),
    "gather in parts": ("gemm", shape(1, 64, (6, 6), 64, (3, 3)), 2),
    "gather, flat": ("gemm", shape(2, 20, (6, 6), 24, (3, 3)), 1),
    "gather, groups": ("gemm", shape(1, 64, (5, 4), 64, (3, 3), groups=2), 1),
    "batch": ("batch", shape(2, 128, (6, 16), 128, (3, 3)), 1),
    "batch, stride": ("batch", shape(65, 128, (3, 4), 128, (3, 3), step=2), 1),
    "batch in parts": ("batch", shape(2, 128, (8, 8), 128, (3, 3), dil=2), 2),
    "strips": ("strips", shape(1, 64, (6, 70), 64, (3, 3)), 1),
    "strips in parts": ("strips", shape(2, 64, (8, 20), 64, (3, 1)), 2),
    "1x1": ("matmul", shape(2, 72, (9, 8), 40, (1, 1)), 1),
    "1x1 in parts": ("matmul", shape(2, 136, (9, 8), 200, (1, 1)), 2),
    "rows": ("rows", shape(1, 3, (9, 10), 20, (3, 5)), 1),
    "rows, stride": ("rows", shape(1, 3, (14, 14), 64, (7, 7), step=2), 1),
    "blocks": ("blocks", shape(1, 6, (8, 8), 8, (3, 3)), 1),
    "groups": ("groups", shape(1, 24, (7, 6), 24, (3, 3), groups=8), 1),
    "groups, stride": ("groups", shape(1, 128, (6, 6), 64, (3, 3), step=2, groups=32), 1),
}


def smallest(algorithm: str, which: str, g: Conv2dGeometry) -> Plan | None:
    """The plan of that algorithm with the smallest tile, if it has one for the pass."""
    found = [plan for plan in shipped(which, g, 2, H100) if plan.algorithm == algorithm]
    return min(found, key=lambda plan: plan.block.block_m * plan.block.block_n, default=None)


def recorded(which: str, g: Conv2dGeometry, plan: Plan, last: bool = True) -> list[Launch]:
    form = torch.channels_last if last else torch.contiguous_format
    sizes = (g.n, g.c, g.h, g.w), (g.k, g.c_group, g.r, g.s), (g.n, g.k, g.p, g.q)
    x, w, dy = (torch.zeros(size, dtype=DTYPE).contiguous(memory_format=form) for size in sizes)
    passes: dict[str, Callable[[], object]] = {
        "fprop": lambda: forward.fprop(x, w, None, g, False),
        "fprop_pool": lambda: forward.fprop_pool(x, w, None, g, False, True),
        "dgrad": lambda: gradients.dgrad(dy, w, g, last),
        "wgrad": lambda: gradients.wgrad(dy, x, g, last),
    }
    with assume_card(H100), record() as found, force_plan(which, plan):
        passes[which]()
    return found


@pytest.mark.skipif(not INTERPRET, reason="the interpreter counts the products")
@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_that_programs_take(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, g, splits = CASES[case]
    made, multiply = [], InterpreterBuilder.create_dot

    def counted(*args: object) -> object:
        made.append(args)
        return multiply(*args)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", counted)
    passes = {which: plan for which in PASSES if (plan := smallest(algorithm, which, g))}
    assert passes
    for which, plan in passes.items():
        cut = (
            work_of(algorithm, which, g, 2, H100, plan.packed, plan.block.block_m).split != "no"
            if splits > 1
            else False
        )
        made.clear()
        said = 0.0
        for launch in recorded(which, g, replace(plan, splits=splits if cut else 1)):
            start(launch)
            if "BLOCK_K" in launch.arguments:
                said += launch.grid * steps_of(launch) * step_of(launch).joint
        assert len(made) > 0 and len(made) == pytest.approx(said), which


@pytest.mark.parametrize("case", CASES)
def test_a_step_is_that_of_the_estimate(case: str) -> None:
    """plans/cost.py says without a launch what a step fetches and multiplies."""
    algorithm, g, _ = CASES[case]
    for which in PASSES:
        plan = smallest(algorithm, which, g)
        if plan is None or algorithm == "groups":
            continue
        tile, product = plan.block, work_of(algorithm, which, g, 2, H100, plan.packed, plan.block.block_m)
        joint = product.joint or product.rows
        flops = 2.0 * joint * tile.block_m * tile.block_n * tile.block_k
        size = 2.0 * (product.rows * tile.block_m + product.columns * tile.block_n) * tile.block_k
        for launch in recorded(which, g, plan):
            if "BLOCK_K" in launch.arguments:
                assert work_of_step(launch) == (flops, size), which
                if algorithm == "rows" and which != "wgrad":
                    assert steps_of(launch) == product.steps(tile.block_k), which
