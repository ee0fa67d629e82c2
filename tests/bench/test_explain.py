"""`explain` of every bucket that the layers of known networks fall into: the algorithm's kernel and the plan's tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import kernels
from bench.cases import Layer, networks
from bench.machine_code.compile import CARDS
from bench.machine_code.jobs import products
from bench.machine_code.plans import PRECISIONS
from bench.tune import Target, passes_of
from kernels.common import launch
from kernels.common.device import assume_card, cpu_as_card
from kernels.common.launch import Launch
from kernels.conv2d.common.arguments import planning_card
from kernels.conv2d.plans.choose import plan

KERNELS = {
    "gemm": ("fprop_kernel", "fprop_pool_kernel", "dgrad_kernel", "wgrad_kernel"),
    "batch": ("batch_fprop_kernel", "batch_fprop_pool_kernel", "batch_dgrad_kernel", "batch_wgrad_kernel"),
    "matmul": ("matmul_kernel",) * 4,
    "strips": ("strips_fprop_kernel", "strips_fprop_pool_kernel", "strips_fprop_kernel", "strips_wgrad_kernel"),
    "rows": ("rows_fprop_kernel", "rows_fprop_kernel", "rows_fprop_kernel", "rows_wgrad_kernel"),
    "blocks": ("blocks_fprop_kernel", "blocks_fprop_kernel", "blocks_fprop_kernel", "blocks_wgrad_kernel"),
    "groups": ("groups_fprop_kernel", "", "groups_fprop_kernel", "groups_wgrad_kernel"),
    "patch": ("patch_fprop_kernel",) * 4,
}
PASSES = ("fprop", "fprop_pool", "dgrad", "wgrad")
THIN = ("direct", "depthwise")
BATCHES = (1, 32)
LARGEST = 2**27
"""Elements of a map: the memory is asked for, if not touched."""


def _layers() -> Iterator[tuple[Layer, int]]:
    for layers in networks().values():
        for layer in layers:
            for batch in (layer.batch,) if layer.batch else BATCHES:
                p, q = layer.out
                largest = batch * max(layer.c * layer.h * layer.w, layer.k_out * p * q)
                if layer.op == "conv2d" and largest <= LARGEST:
                    yield layer, batch


def _explained(layer: Layer, batch: int, dtype: torch.dtype, form: torch.memory_format) -> Any:
    window = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": layer.groups}
    fused = "fprop_pool" in passes_of(layer)
    x = torch.empty(batch, layer.c, layer.h, layer.w, dtype=dtype, memory_format=form)
    w = torch.empty(layer.k, layer.c // layer.groups, *layer.kernel, dtype=dtype, memory_format=form)
    function: Any = kernels.conv2d_relu_pool2d if fused else kernels.conv2d
    return kernels.explain(function, x.requires_grad_(not layer.from_image), w.requires_grad_(), None, **window)


def _names(found: tuple[Launch, ...], which: str, chosen: Any) -> bool:
    """Whether one of the launches is that of the plan."""
    named = [launch for launch in found if launch.kernel.__name__ in KERNELS.get(chosen.algorithm, ())]
    tile = chosen.tile
    if tile is None:
        return bool(named) or any(launch.kernel.__name__.startswith(THIN) for launch in found)
    name = KERNELS[chosen.algorithm][PASSES.index(which)]
    blocks = tile.block_m, tile.block_n, tile.block_k, tile.num_stages
    return blocks in [
        (a["BLOCK_M"], a["BLOCK_N"], a["BLOCK_K"], launch.options["num_stages"])
        for launch, a in ((launch, launch.arguments) for launch in named)
        if launch.kernel.__name__ == name and launch.options["num_warps"] in (tile.num_warps, 8)
    ]


@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_bucket_is_explained(precision: str, last: bool) -> None:
    dtype = PRECISIONS[precision]
    form = torch.channels_last if last else torch.contiguous_format
    seen, wrong = set(), []
    with products(precision), assume_card(CARDS["sm_90"]), kernels.backend("triton"):
        for layer, batch in _layers():
            found = None
            fused = "fprop_pool" in passes_of(layer)
            for which in passes_of(layer):
                target = Target(layer, batch, "fp16", which)
                if target.bucket in seen or (fused and which == "fprop"):
                    continue
                seen.add(target.bucket)
                found = found or _explained(layer, batch, dtype, form)
                card = planning_card(torch.empty(0, dtype=dtype), which, target.geometry)
                chosen = plan(which, target.geometry, dtype.itemsize, card)
                launches = found.backward if which in ("dgrad", "wgrad") else found.launches
                if not _names(launches, which, chosen):
                    wrong.append(f"{target.name}: {chosen} is not in\n{found}")
    assert len(seen) > 500
    assert not wrong, f"{len(wrong)} of {len(seen)}:\n" + "\n".join(wrong[:3])


@pytest.mark.parametrize("helped", [False, True])
def test_a_program_that_spilled_says_so(monkeypatch: pytest.MonkeyPatch, helped: bool) -> None:
    """Once the driver has reported it, of this program and of no other; or which registers were named instead."""

    def explained(**options: int) -> kernels.Explanation:
        with kernels.backend("triton"):
            return kernels.explain(kernels.conv2d, torch.empty(2, 64, 9, 9), torch.empty(32, 64, 3, 3), **options)

    before = explained()
    call = next(each for each in before.launches if "BLOCK_K" in each.arguments)
    started: list[dict[str, int]] = []

    class Compiled:
        """What a launch compiles on a card."""

        __name__ = call.kernel.__name__
        n_regs, n_spills, run = 80, 6, None

        def __getitem__(self, _: Any) -> Any:
            return lambda **given: started.append(given)

        def warmup(self, *, grid: tuple[int], **given: Any) -> Any:
            found = Compiled()
            found.n_spills = 0 if helped and "maxnreg" in given else 6
            return found

    monkeypatch.setattr(launch, "INTERPRET", False)
    monkeypatch.setattr(launch, "_known", {})
    assert "on the stack" not in str(before) and "maxnreg" not in str(before)
    with cpu_as_card():
        launch.start(replace(call, kernel=Compiled()))
    end = "maxnreg=80" if helped else "6 registers on the stack"
    assert [given.get("maxnreg") for given in started] == [80 if helped else None]
    found = str(explained()).splitlines()
    assert [line for line in found if line.endswith(end)] == [
        line for line in found if line.startswith(f"  {call.kernel.__name__}:")
    ]
    assert "on the stack" not in str(explained(padding=1)) and "maxnreg" not in str(explained(padding=1))


def test_only_the_gradients_that_are_asked_for_are_explained() -> None:
    x, w = torch.empty(2, 64, 8, 8), torch.empty(64, 64, 3, 3)
    with kernels.backend("triton"):
        none = kernels.explain(kernels.conv2d, x, w, padding=1)
        with torch.no_grad():
            off = kernels.explain(kernels.conv2d, x, w.clone().requires_grad_(), padding=1)
        found = kernels.explain(kernels.conv2d, x, w.requires_grad_(), padding=1)
    assert none.backward == off.backward == () and "backward" not in str(none)
    names = [launch.kernel.__name__ for launch in found.backward]
    assert any(name.endswith("wgrad_kernel") for name in names)
    assert not any(name.endswith("dgrad_kernel") for name in names)
    assert " backward:\n" in str(found) and w.grad is None
