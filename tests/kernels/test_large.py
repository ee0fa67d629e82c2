"""Offsets beyond 31 bits and grids beyond 65,535: what is launched for tensors too large for this machine, and small
tensors whose elements really lie that far apart. A card runs the large tensors themselves (python -m bench gpu)."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path as File
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor

import kernels
from kernels.common.device import H100, Card
from kernels.common.launch import Launch, record
from kernels.common.layout import compact, is_channels_last, span
from kernels.conv2d import forward, gradients
from kernels.conv2d.common.dz import dz_bias
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import is_legal
from kernels.conv2d.plans.few import is_far
from kernels.conv2d.plans.plan import PASSES, rule, shipped
from kernels.pool2d import passes
from kernels.pool2d.geometry import Pool2dGeometry
from tests.kernels.paths import Path
from tests.kernels.problems import STANDARD, Problem, run

WINDOW = Pool2dGeometry((2, 2), (2, 2), (0, 0), (1, 1), False)
WIDE_WINDOW = Pool2dGeometry((3, 3), (1, 1), (1, 1), (1, 1), False)


def _meta(*shape: int, channels_last: bool = False, dtype: torch.dtype = torch.float16) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device="meta", memory_format=form)


def _convolution(n: int, c: int, size: int, k: int, taps: int, groups: int, channels_last: bool) -> list[Launch]:
    """What every pass of a 'same' convolution launches."""
    g = Conv2dGeometry(n, c, size, size, k, taps, taps, (1, 1), (taps // 2,) * 4, (1, 1), groups)
    x, y = _meta(n, c, size, size, channels_last=channels_last), _meta(n, k, size, size, channels_last=channels_last)
    w = _meta(k, c // groups, taps, taps)
    with record() as launches:
        forward.fprop(x, w, None, g, False)
        gradients.dgrad(y, w, g, channels_last)
        gradients.wgrad(y, x, g, channels_last)
        dz_bias("relu", y, y, tuple(y.shape), channels_last)
        if groups == 1:
            forward.fprop_pool(x, w, None, g, False, True)
            half = _meta(n, k, size // 2, size // 2, channels_last=channels_last)
            dz_bias("max", half, half.to(torch.uint8), tuple(y.shape), channels_last)
    return list(launches)


def _pools(n: int, c: int, size: int, channels_last: bool) -> list[Launch]:
    x = _meta(n, c, size, size, channels_last=channels_last)
    with record() as launches:
        for g in (WINDOW, WIDE_WINDOW):
            y, code, _ = passes.max_pool(x, g, True, g is WIDE_WINDOW)
            passes.max_pool_backward(y, code, size, size, g, channels_last)
            y = passes.avg_pool(x, g, True, 0)
            passes.avg_pool_backward(y, size, size, g, True, 0, channels_last)
    return list(launches)


def _narrow(launches: list[Launch]) -> list[str]:
    """Kernels whose offsets have 32 bits although a tensor of theirs has more elements than that."""
    found = []
    for launch in launches:
        tensors = [t for t in launch.arguments.values() if isinstance(t, Tensor)]
        if max((t.numel() for t in tensors), default=0) >= 2**31 and launch.arguments["INDEX"] != tl.int64:
            found.append(launch.kernel.__name__)
    return found


LARGE = {
    "many images": (70_000, 48, 32, 48, 3, 1),
    "many images in boxes": (70_000, 64, 32, 64, 3, 1),
    "many images of few channels": (3_000_000, 1, 28, 6, 5, 1),
    "one huge image": (1, 2, 40_000, 3, 3, 1),
    "large result of a small input": (40, 1, 1024, 64, 3, 1),
    "large input of a small result": (40, 64, 1024, 1, 3, 1),
    "depthwise": (70_000, 32, 32, 32, 3, 32),
    "wide groups": (70_000, 64, 32, 64, 3, 2),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("sizes", LARGE.values(), ids=LARGE)
def test_convolutions_beyond_31_bits_use_64(triton: Path, sizes: Any, channels_last: bool) -> None:
    launches = _convolution(*sizes, channels_last)
    assert max(t.numel() for launch in launches for t in launch.arguments.values() if isinstance(t, Tensor)) >= 2**31
    assert not _narrow(launches)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("sizes", [(70_000, 64, 32), (1, 2, 40_000), (1, 1, 65_538)], ids=str)
def test_pools_beyond_31_bits_use_64(triton: Path, sizes: tuple[int, int, int], channels_last: bool) -> None:
    assert not _narrow(_pools(*sizes, channels_last))


CARDS = {"tma": H100, "no tma": Card(166_912, False), "fma": Card(65_536, False, fma=True)}
FAR = {"128-64": (70_000, 128, 32, 64, 3, 1), "3-64": (70_000, 3, 224, 64, 3, 1), "20-24": (70_000, 20, 40, 24, 3, 1)}


@pytest.mark.parametrize("sizes", FAR.values(), ids=FAR)
@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_offsets_of_64_bits_have_few_tiles(card: Card, sizes: Any) -> None:
    """Of eight warps, in one part of a sum; what a table measured of nearer offsets is not legal there."""
    n, c, size, k, taps, groups = sizes
    g = Conv2dGeometry(n, c, size, size, k, taps, taps, (1, 1), (1,) * 4, (1, 1), groups)
    for which, itemsize in product(PASSES, (4,) if card.fma else (2, 4, 8)):
        near = replace(g, n=2)
        assert is_far(which, g, itemsize) and not is_far(which, near, itemsize)
        found = [p for p in shipped(which, g, itemsize, card) if p.algorithm in ("gemm", "rows")]
        assert 1 <= len(found) <= 2 and all(p.block.num_warps == 8 for p in found)
        small = min(shipped(which, near, itemsize, card), key=lambda p: p.block.block_m * p.block.block_n)
        assert is_legal(small, which, near, itemsize, card)
        chosen = rule(which, g, itemsize, card)
        assert chosen.algorithm not in ("gemm", "rows") or replace(chosen, splits=1) in found
        assert which == "wgrad" or chosen.splits == 1


def test_what_is_spread_out_is_copied_and_keeps_its_layout() -> None:
    """A slice of something large has few elements: they take offsets of 32 bits."""
    wide = torch.empty(2**31, 2, device="meta")[:, 0].as_strided((2, 4, 3, 5), (2**31, 1, 20, 4))
    for t, channels_last in ((wide, True), (wide.transpose(1, 3), False)):
        assert span(t) > 2**31
        made = compact(t)
        assert span(made) == made.numel() == t.numel()
        assert is_channels_last(made) == channels_last
    large = _meta(70_000, 64, 32, 32, channels_last=True)
    assert compact(large) is large and compact(large[:2]).data_ptr() == large.data_ptr()


def test_small_problems_keep_32_bits(triton: Path) -> None:
    """The wide index is slower: only what needs it pays."""
    launches = _convolution(8, 16, 16, 16, 3, 1, False) + _pools(8, 16, 16, True)
    assert {launch.arguments.get("INDEX", tl.int32) for launch in launches} == {tl.int32}


def test_grids_lie_on_the_first_axis(triton: Path) -> None:
    """CUDA allows 2^31 - 1 programs there and 65,535 on the others."""
    launches = _convolution(70_000, 64, 32, 64, 3, 1, False) + _pools(70_000, 64, 32, False)
    assert max(launch.grid for launch in launches) > 65_535
    assert max(launch.grid for launch in launches) < 2**31
    root = File(kernels.__file__).parent
    for file in root.rglob("*.py"):
        assert not re.search(r"program_id\((axis=)?[12]\)", file.read_text()), file


# --- elements that are really far apart -------------------------------------------------------------------------------

REACH = 2**31 + 2**20


@pytest.fixture(scope="module")
def far_memory() -> Callable[..., Tensor]:
    """Tensors inside reserved address space of 10 GB, of which only the touched pages exist."""
    if torch.cuda.is_available():
        pytest.skip("CUDA memory cannot be reserved without being used: the card runs large tensors instead")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    area = mmap.mmap(-1, 4 * (REACH + 2**20), flags=flags)
    base = torch.frombuffer(area, dtype=torch.float32)

    def place(t: Tensor, axis: int) -> Tensor:
        """`t` with an element stride along `axis` so large that its last slice lies beyond 2^31 elements."""
        stride = [2 * s for s in t.stride()]
        stride[axis] = REACH // (t.shape[axis] - 1)
        return base.as_strided(t.shape, stride).copy_(t)

    return place


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_strides_that_reach_beyond_31_bits(
    triton: Path, checked_integers: None, far_memory: Callable[..., Tensor], problem: Problem
) -> None:
    """Each tensor in turn, and the incoming gradient, spread along each of its axes. The interpreter reports overflow
    of 32-bit sums and products."""
    tensors = problem.tensors("cpu", integers=True)
    want = run(problem.ours, tensors, problem.torchs(*tensors))
    for which, t in enumerate([*tensors, want[0]]):
        for axis in range(t.dim()):
            inputs = [u.detach() for u in tensors]
            dy = want[0]
            if which < len(tensors):
                inputs[which] = far_memory(t, axis)
            else:
                dy = far_memory(t, axis)
            inputs = [u.detach().requires_grad_() for u in inputs]
            y = problem.ours(*inputs)
            got = [y, *torch.autograd.grad(y, inputs, dy)]
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(
                    a, b, msg=lambda m, which=which, axis=axis: f"tensor {which}, axis {axis}: {m}"
                )


def _last_images_are_right(count: int, c: int, size: int, device: str, channels_last: bool) -> None:
    """Of `count` images only the last two are not zero; they come out as they do alone, gradients too.

    -1, 0 and 1 alone: every sum is exact in float16, whatever plan the number of images gets.
    """
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.zeros(count, c, size, size, dtype=torch.float16, device=device).to(memory_format=form)
    few = torch.randint(-1, 2, (2, c, size, size), device=device).half().contiguous(memory_format=form)
    x[-2:] = few
    w = torch.randint(-1, 2, (c, c, 3, 3), device=device).half()
    calls: dict[str, Callable[[Tensor], Tensor]] = {
        "conv2d": lambda t: kernels.conv2d(t, w, padding=1),
        "max_pool2d": lambda t: kernels.max_pool2d(t, 3, 2, 1),
        "avg_pool2d": lambda t: kernels.avg_pool2d(t, 2),
    }
    for name, call in calls.items():
        results = []
        for t in (x, few):
            leaf = t.detach().requires_grad_()
            y = call(leaf)
            y.backward(y.detach().sign())
            results.append((y.detach()[-2:], leaf.grad[-2:]))
            assert not y.detach()[: t.shape[0] - 2].any(), name
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=0, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("channels_last", [False, True])
def test_more_than_2_to_the_31_elements(triton: Path, channels_last: bool) -> None:
    """The real thing on a card with room for it; four images, to see the test itself work, elsewhere."""
    if triton.device == "cuda" and torch.cuda.mem_get_info()[0] < 40e9:
        pytest.skip("needs 40 GB of the card's memory")
    sizes = (33_000, 64, 32) if triton.device == "cuda" else (4, 3, 6)
    _last_images_are_right(*sizes, triton.device, channels_last)
