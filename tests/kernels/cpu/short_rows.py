"""What test_torch_faults.py runs in a process whose freed memory is not zero: bfloat16 convolutions of short rows.

Prints one line a case: its name, and "ok" or what differs from float64. Small integers: every answer is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels

Shapes = tuple[tuple[int, ...], tuple[int, ...]]
KINDS = ("bfloat16", "float32", "autocast")
CASES: dict[str, tuple[str, Shapes, dict[str, Any]]] = {
    "dw, padded pixel": ("conv2d", ((2, 16, 5, 1), (16, 16, 3, 2)), {"stride": 2, "padding": 1}),
    "dw, rows of two": ("conv2d", ((1, 3, 4, 2), (17, 3, 1, 3)), {"stride": (1, 3), "padding": (0, 2)}),
    "dw, four windows": ("conv2d", ((2, 16, 3, 1), (16, 16, 1, 7)), {"stride": (1, 2), "padding": (0, 6)}),
    "dw, groups": ("conv2d", ((3, 18, 11, 1), (9, 6, 3, 3)), {"stride": 3, "padding": (0, 2), "groups": 3}),
    "dw, relu": ("conv2d_relu", ((2, 16, 5, 1), (16, 16, 3, 2)), {"stride": 2, "padding": 1}),
    "dw, relu and pool": (
        "conv2d_relu_pool2d", ((2, 3, 256, 2), (16, 3, 3, 7)), {"stride": (1, 3), "padding": (1, 6), "pool": "avg"},
    ),
    "dw, one dimension": ("conv1d", ((2, 16, 2), (16, 16, 3)), {"stride": 3, "padding": 1}),
    "dw, transposed": ("conv_transpose2d", ((1, 16, 3, 2), (16, 3, 1, 4)), {"stride": 4, "padding": (0, 3)}),
    "sums of one window a row": ("conv2d", ((3, 3, 5, 3), (48, 1, 1, 3)), {"stride": (1, 3), "groups": 3}),
    "sums of one padded window": ("conv2d", ((3, 16, 2, 4), (16, 16, 2, 4)), {"stride": (1, 4), "padding": (1, 0)}),
    "dilated, padding wider than the kernel": (
        "conv2d", ((2, 3, 4, 1), (1, 3, 4, 1)), {"stride": 2, "padding": (0, 1), "dilation": (1, 3)},
    ),
    "dilated, padding much wider than the kernel": (
        "conv2d", ((1, 16, 6, 1), (17, 16, 1, 1)), {"stride": 4, "padding": (5, 7), "dilation": (1, 3)},
    ),
}  # fmt: skip


def integers(*shape: int) -> Tensor:
    """Small integers, exact in bfloat16 as are their sums here."""
    return torch.randint(-1, 2, shape).float()


def answers(function: Callable[..., Tensor], x: Tensor, w: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """Result and both gradients, in float64."""
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = function(x, w, None, **options)
    torch.manual_seed(1)
    dy = integers(*y.shape)
    y.backward(dy.to(y.dtype))
    return [t.detach().double() for t in (y, x.grad, w.grad)]


def check(name: str, channels_last: bool, kind: str) -> str:
    """ "ok", or which of the answers differs. kind: a dtype, or "autocast"."""
    function, (x_shape, w_shape), options = CASES[name]
    torch.manual_seed(0)
    x, w = integers(*x_shape), integers(*w_shape)
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    ours = getattr(kernels, function)
    theirs = getattr(F, function, ours)  # the fused functions are right in float64
    exact = answers(theirs, x.double(), w.double(), options)
    autocast = kind == "autocast"
    dtype = torch.float32 if autocast else getattr(torch, kind)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = answers(ours, x.to(dtype), w.to(dtype), options)
    wrong = [n for n, a, b in zip(("result", "dx", "dw"), found, exact, strict=True) if not torch.equal(a, b)]
    return ", ".join(wrong) or "ok"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case, form, dtype in product(CASES, (False, True), KINDS):
        print(f"{case}: {check(case, form, dtype)}", flush=True)
