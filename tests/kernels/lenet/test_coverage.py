"""Every image is taken once by each kernel, at batches too large for the interpreter to go backward through."""

from __future__ import annotations

from math import ceil, prod

import numpy as np
import pytest
import torch

import kernels
from kernels.common.launch import Launch, record
from kernels.lenet import lenet
from kernels.lenet.geometry import LeNetGeometry
from tests.kernels.lenet.networks import Network

SMALLEST = Network("smallest", 0, 16, 0, classes=2, channels=(1, 1), hidden=(1, 1))
FULL = Network("full", 0)


def launches(network: Network, n: int) -> tuple[LeNetGeometry, dict[str, Launch]]:
    """Those of a training step, none of which runs."""
    x, parameters = torch.empty(n, 1, network.side, network.side), network.parameters()
    with kernels.backend("triton"), record() as found:
        y = lenet(x, parameters, **network.options, arithmetic="float32")
        torch.autograd.grad(y, parameters, torch.empty_like(y))
    g = LeNetGeometry.of(x, parameters, network.padding)
    return g, {launch.kernel.__name__: launch for launch in found}


def times_taken(length: int, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """How often each of `length` places lies in a span [start, end)."""
    edges = np.zeros(length + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, ends, -1)
    return np.cumsum(edges)[:-1]


def splits_cover(length: int, block: int, splits: int) -> None:
    """The parts of a weight gradient's sum (`share` in wgrad.py): whole blocks, each place in one, 32-bit bounds."""
    share = ceil(ceil(length / block) / splits) * block
    starts = np.minimum(np.arange(splits) * share, length)
    ends = np.minimum(np.arange(1, splits + 1) * share, length)
    assert (times_taken(length, starts, ends) == 1).all() and splits * share + block < 2**31


def rows_cover(n: int, rows: int, columns: int, block: int, splits: int) -> None:
    """A convolution's steps (`_conv_part` in wgrad.py): rows of windows, or parts of them, of a group of images each.

    The last group begins earlier and leaves out what the one before it has taken.
    """
    parts = ceil(columns / block)
    row = ceil(columns / parts)
    group = block // row
    assert group >= 1 and parts * row >= columns
    blocks = ceil(n / group)
    splits_cover(blocks, 1, splits)
    wanted = np.arange(blocks) * group
    first = np.maximum(np.minimum(wanted, n - group), 0)
    assert (times_taken(n, np.maximum(first, wanted), np.minimum(first + group, n)) == 1).all()
    assert (blocks + splits) * rows * parts < 2**31


@pytest.mark.parametrize(
    "network, n",
    [*((SMALLEST, n) for n in (31, 33, 65537, 2**20)), *((FULL, n) for n in (31, 33, 65537))],
    ids=str,
)
def test_every_image_once(network: Network, n: int) -> None:
    """Arithmetic on the launches, since 65,537 images backward take the interpreter minutes.

    It repeats the kernels' rule for what a program takes (blocks pid, pid + grid, ...), which smaller batches run. What
    depends on the batch is held here: grids, splits, and the sizes of every buffer.
    """
    g, found = launches(network, n)
    for name in ("forward_kernel", "backward_kernel"):
        a, grid = found[name].arguments, found[name].grid
        images, blocks = a["IMAGES"], ceil(n / a["IMAGES"])
        taken = np.concatenate([np.arange(pid, blocks, grid) for pid in range(grid)]) * images
        assert (times_taken(n, taken, np.minimum(taken + images, n)) == 1).all(), name
        assert a["n"] == n and 1 <= grid <= blocks
    assert found["backward_kernel"].arguments["dz2_ptr"].numel() == grid * images * 64 * g.pixels2
    a, grid = found["wgrad_kernel"].arguments, found["wgrad_kernel"].grid
    s1, s2, s3 = (a[f"splits{i}"] for i in (1, 2, 3))
    rows_cover(n, g.pooled1[0], ceil(g.pooled1[1] / 2), a["BLOCK_M"], s1)
    rows_cover(n, *g.pooled2, a["BLOCK_M"], s2)
    splits_cover(n, a["BLOCK_ROWS"], s3)
    assert grid == s1 + 5 * s2 + s3 * sum(ceil(width / 64) for width in (g.features, g.f1, g.f2))
    linear = sum(prod(shape) for shape in g.shapes[4:])
    sizes = tuple(a[f"part{i}_ptr"].numel() for i in (1, 2, 3))
    assert sizes == (s1 * 65 * 64, 5 * s2 * 65 * 64, s3 * linear)
    for name, width in (
        ("padded", prod(g.padded)),
        ("y1", g.pixels1 * 8),
        ("dy1", g.pixels1 * 8),
        ("y2", g.features),
        ("dy2", g.features),
    ):
        assert a[f"{name}_ptr"].numel() == n * width, name
