"""The checked problem: LeNet-5's sizes, read off the input and its ten parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

OP = "lenet"
NAMES = tuple(f"{layer}.{kind}" for layer in ("conv1", "conv2", "fc1", "fc2", "fc3") for kind in ("weight", "bias"))
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TAPS = 5
# What one tile holds: a row of channels is 8 or 16 wide, a linear layer is one tile of columns.
MOST = {"conv1": 8, "conv2": 16, "fc1": 128, "fc2": 128, "fc3": 128}


@dataclass(frozen=True)
class LeNetGeometry:
    """n images of h x w with one channel; padding around the first convolution; c1, c2 channels, f1, f2 hidden units.

    Both convolutions are 5x5 with stride 1 and have a 2x2 pool after them; a last odd row or column drops out there.
    """

    n: int
    h: int
    w: int
    padding: int
    c1: int
    c2: int
    f1: int
    f2: int
    classes: int

    @property
    def pooled1(self) -> tuple[int, int]:
        """Rows and columns after the first pool."""
        return (self.h + 2 * self.padding - TAPS + 1) // 2, (self.w + 2 * self.padding - TAPS + 1) // 2

    @property
    def pooled2(self) -> tuple[int, int]:
        """Rows and columns after the second pool."""
        rows, cols = self.pooled1
        return (rows - TAPS + 1) // 2, (cols - TAPS + 1) // 2

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns that the first layer's patches reach, two pooled pixels side by side in one."""
        rows, cols = self.pooled1
        return 2 * rows + 4, (cols + 1) // 2 * 4 + 4

    @property
    def pixels1(self) -> int:
        """Pixels of a map after the first pool."""
        return self.pooled1[0] * self.pooled1[1]

    @property
    def pixels2(self) -> int:
        """Pixels of a map after the second pool."""
        return self.pooled2[0] * self.pooled2[1]

    @property
    def features(self) -> int:
        """What the first linear layer reads: all maps of an image after the second pool, flattened."""
        return self.c2 * self.pixels2

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the ten parameters in the order of NAMES."""
        return (
            (self.c1, 1, TAPS, TAPS),
            (self.c1,),
            (self.c2, self.c1, TAPS, TAPS),
            (self.c2,),
            (self.f1, self.features),
            (self.f1,),
            (self.f2, self.f1),
            (self.f2,),
            (self.classes, self.f2),
            (self.classes,),
        )

    @staticmethod
    def of(x: Tensor, parameters: Sequence[Any], padding: int) -> LeNetGeometry:
        """Read the sizes and check them. RuntimeError where tensors do not fit, TypeError where they are none."""
        if len(parameters) != len(NAMES):
            raise TypeError(f"{OP}: expected {len(NAMES)} parameters ({', '.join(NAMES)}), got {len(parameters)}")
        for name, p in zip(("input", *NAMES), (x, *parameters), strict=True):
            if not isinstance(p, Tensor):
                raise TypeError(f"{OP}: {name} must be a Tensor, not {type(p).__name__}")
        if x.dim() != 4 or x.shape[1] != 1:
            raise RuntimeError(f"{OP}: input must be [n, 1, h, w], not {tuple(x.shape)}")
        if padding < 0:
            raise RuntimeError(f"{OP}: negative padding is not supported, got {padding}")
        shapes = tuple(p.shape for p in parameters)
        if torch.compiler.is_compiling() or not all(type(size) is int for size in x.shape):
            return _checked.__wrapped__(x.shape, shapes, padding)
        return _checked(x.shape, shapes, padding)

    def unsupported(self) -> str | None:
        """Why the one-kernel form does not hold this network, or None."""
        sizes = {"conv1": self.c1, "conv2": self.c2, "fc1": self.f1, "fc2": self.f2, "fc3": self.classes}
        for name, size in sizes.items():
            if not 1 <= size <= MOST[name]:
                return f"{OP}: {name} has {size} outputs; the fused kernel takes 1 to {MOST[name]}"
        if self.n > 2**20 or self.h * self.w > 2**16:
            return f"{OP}: {self.n} images of {self.h} x {self.w}; the fused kernel takes 2^20 images of 2^16 pixels"
        return None


@lru_cache(maxsize=256)
def _checked(image: tuple[int, ...], shapes: tuple[tuple[int, ...], ...], padding: int) -> LeNetGeometry:
    n, _, h, w = image
    c1, c2, f1, f2, classes = (shapes[i][0] if shapes[i] else 0 for i in range(1, 10, 2))
    g = LeNetGeometry(n, h, w, padding, c1, c2, f1, f2, classes)
    if min(g.pooled1) < 1 or min(g.pooled2) < 1:
        raise RuntimeError(
            f"{OP}: input of {h} x {w} with padding {padding} is too small: after the second pool "
            f"{g.pooled2[0]} x {g.pooled2[1]} pixels are left (at least 16 x 16 with its padding is needed)"
        )
    for name, shape, wanted in zip(NAMES, shapes, g.shapes, strict=True):
        if tuple(shape) != wanted:
            raise RuntimeError(
                f"{OP}: {name} is {tuple(shape)}, but the input {h} x {w} with padding {padding} and the other "
                f"parameters need {wanted}"
            )
    return g


def check_dtypes(x: Tensor, parameters: Sequence[Tensor], mixed: bool) -> None:
    """RuntimeError unless every tensor is on the input's device and, unless `mixed`, of its dtype."""
    for name, p in zip(NAMES, parameters, strict=True):
        if p.device != x.device:
            raise RuntimeError(f"{OP}: input is on {x.device}, but {name} on {p.device}; move the model or the input")
        if p.dtype != x.dtype and not mixed:
            raise RuntimeError(
                f"{OP}: input is {x.dtype}, but {name} {p.dtype}; convert one of them, or name the arithmetic"
            )
