"""Copies into channels_last order: their values, and how many launches a call takes for them."""

import pytest
import torch
from torch import nn

import kernels
from kernels.common.launch import record
from kernels.conv2d.common.pack import both_innermost, both_outermost, channels_innermost, channels_outermost
from tests.compare import assert_exact
from tests.kernels.paths import Path

SIZES = {
    "aligned": (2, 16, 4, 8),
    "rows of 8 bytes": (2, 24, 6, 6),
    "odd": (3, 5, 7, 3),
    "filters": (8, 70, 3, 3),
    "one pixel": (3, 9, 1, 1),
    "a column": (2, 6, 9, 1),
    "more pixels than a tile": (1, 3, 13, 11),
    "more channels than a tile": (1, 600, 1, 3),
}
PACKING = {"pack_kernel", "pack_two_kernel", "rows_pack_kernel"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.uint8], ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_there_and_back(triton: Path, name: str, dtype: torch.dtype) -> None:
    x = torch.randint(0, 200, SIZES[name]).to(dtype)
    packed = channels_innermost(x)
    assert_exact(packed, x)
    assert x.shape[1] == 1 or packed.stride(1) == 1
    back = channels_outermost(x.contiguous(memory_format=torch.channels_last))
    assert_exact(back, x)
    assert back.is_contiguous()


@pytest.mark.parametrize("name", ["aligned", "odd"])
def test_views_are_packed_too(triton: Path, name: str) -> None:
    x = torch.randint(0, 200, SIZES[name]).float()
    for view in (x[:, ::2], x[:, :, 1:, :-1], x[..., ::2], x.transpose(2, 3), x[:, :, :1], x[:, :1].expand(x.shape)):
        assert_exact(channels_innermost(view), view)


def test_two_in_one_launch(triton: Path) -> None:
    x, w = (torch.randint(0, 200, SIZES[name]).float() for name in ("odd", "filters"))
    with record() as launches:
        both_innermost(x, w)
    assert [launch.kernel.__name__ for launch in launches] == ["pack_two_kernel"]
    for got, want in zip(both_innermost(x, w), (x, w), strict=True):
        assert_exact(got, want)
    last = x.contiguous(memory_format=torch.channels_last)
    code = last.to(torch.uint8)
    for got, want in zip(both_outermost(last, code), (x, x.to(torch.uint8)), strict=True):
        assert_exact(got, want)
        assert got.is_contiguous()
    assert both_outermost(last, code[:0])[1].numel() == 0


def _launched(dtype: torch.dtype, form: torch.memory_format) -> tuple[list[str], list[str]]:
    """The kernels of a small network forward, and of its backward pass."""
    layers = (nn.Conv2d(64, 64, 3, padding=1, stride=2), nn.Conv2d(64, 128, 1), nn.Conv2d(128, 64, 3))
    model = nn.Sequential(*layers).to(dtype).to(memory_format=form)
    x = torch.zeros(2, 64, 9, 9, dtype=dtype).contiguous(memory_format=form).requires_grad_()
    with record() as launches, kernels.backend("triton"):
        for layer in model:
            x = kernels.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
        forward = len(launches)
        x.backward(torch.zeros_like(x))
    names = [launch.kernel.__name__ for launch in launches]
    return names[:forward], names[forward:]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_a_channels_last_model_packs_nothing(triton: Path, dtype: torch.dtype) -> None:
    """But for the input gradient in float32, whose tensor cores want the weights turned."""
    forward, backward = _launched(dtype, torch.channels_last)
    assert not PACKING & set(forward)
    assert not PACKING & set(backward) or dtype == torch.float32


def test_a_contiguous_call_packs_once_and_back(triton: Path) -> None:
    """Forward: input and weight in one launch, the result in another; as many for each gradient of both."""
    forward, backward = _launched(torch.float16, torch.contiguous_format)
    # The weight of 1x1 taps is in either order; its call packs the input alone.
    assert [name for name in forward if name in PACKING] == [
        *("pack_two_kernel", "pack_kernel"),
        *("pack_kernel", "pack_kernel"),
        *("pack_two_kernel", "pack_kernel"),
    ]
    assert backward.count("pack_two_kernel") == 5
