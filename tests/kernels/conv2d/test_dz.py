"""From the gradient of an activated, pooled map back to the convolution's output and its bias, by the definition."""

import pytest
import torch
from torch import Tensor

from kernels.conv2d.common.dz import dz_bias
from tests.compare import assert_exact
from tests.kernels.paths import Path

SIZES = {
    "rows of 16 bytes": (2, 3, 4, 16),
    "planes of 16 bytes, short rows": (2, 8, 4, 6),
    "odd rows": (2, 3, 4, 7),
    "odd rows and columns": (2, 4, 5, 7),
    "odd columns of wide rows": (1, 2, 5, 8),
    "one pixel": (3, 5, 1, 1),
    "more channels than a block": (1, 72, 2, 2),
    "more pixels than a block": (3, 2, 34, 34),
}


def _expected(mode: str, dy: Tensor, y: Tensor | None, size: tuple[int, ...]) -> Tensor:
    if y is None:
        return dy
    if mode == "relu":
        return torch.where(y <= 0, torch.zeros_like(dy), dy)
    dz = torch.zeros(size, dtype=dy.dtype)
    rows, cols = dy.shape[2:]
    for position in range(4):
        chosen = (y >> position) & 1 == 1 if mode == "average" else y == position
        share = dy * 0.25 if mode == "average" else dy
        window = dz[:, :, position // 2 : 2 * rows : 2, position % 2 : 2 * cols : 2]
        window.copy_(torch.where(chosen, share, torch.zeros_like(share)))
    return dz


def _integers(shape: tuple[int, ...], dtype: torch.dtype, low: int, high: int, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.randint(low, high, shape).to(dtype).contiguous(memory_format=form)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["bias", "relu", "max", "average"])
@pytest.mark.parametrize("name", SIZES)
def test_dz_and_bias(triton: Path, name: str, mode: str, dtype: torch.dtype, channels_last: bool) -> None:
    """Small integers: every sum is exact."""
    n, k, p, q = size = SIZES[name]
    pooled = mode in ("max", "average")
    shape = (n, k, p // 2, q // 2) if pooled else size
    dy = _integers(shape, dtype, -2, 3, channels_last) * 4
    y: Tensor | None = None
    if pooled:
        y = _integers(shape, torch.uint8, 0, 16 if mode == "average" else 5, channels_last)
    elif mode == "relu":
        y = _integers(shape, dtype, 0, 2, channels_last)
    dz, db = dz_bias(mode, dy, y, size, channels_last)
    want = _expected(mode, dy, y, size)
    assert_exact(db, want.double().sum((0, 2, 3)).to(dtype))
    if mode != "bias":
        assert_exact(dz, want)
        assert dz.stride() == torch.empty(size).to(memory_format=_form(channels_last)).stride()


def _form(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


@pytest.mark.parametrize("mode", ["relu", "max"])
def test_gradients_of_other_strides(triton: Path, mode: str) -> None:
    """One number for all elements, as a sum hands it back, and a gradient in the other layout."""
    size = (2, 4, 4, 6)
    shape = (2, 4, 2, 3) if mode == "max" else size
    y = _integers(shape, torch.uint8 if mode == "max" else torch.float32, 0, 2, False)
    for dy in (torch.ones(()).expand(shape), _integers(shape, torch.float32, -2, 3, True)):
        dz, db = dz_bias(mode, dy, y, size, False)
        want = _expected(mode, dy, y, size)
        assert_exact(dz, want)
        assert_exact(db, want.sum((0, 2, 3)))
