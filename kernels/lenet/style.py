"""What the kernels compute and keep, apart from the sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl

from kernels.common.precision import product_tf32_allowed, tf32_allowed
from kernels.lenet.geometry import LeNetGeometry

FORWARD_PACKED = 48 * 64 + 36 * 8 * 64
"""Entries of the window matrices of conv1 and conv2."""
PACKED = FORWARD_PACKED + 48 * 16 * 64
"""The same, and those of conv2 transposed."""
WGRAD_TILES = -(-36 * 8 // 64)
"""Tiles of 64 rows that hold the gradient of conv2's window matrix."""
_TYPES = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
# Three products of the two halves of each number: nearly float32's accuracy. AMD has no TF32 to build it of.
_FLOAT32, _TF32 = ("ieee", "tf32 portable") if torch.version.hip else ("tf32x3", "tf32")


@dataclass(frozen=True)
class Style:
    """What is computed, and in which numbers.

    average: pool by mean instead of maximum; tanh: instead of ReLU. compute: dtype of the factors of all products and
    of the layers' outputs; sums are float32. precision: for compute float32, "float32", "tf32" (factors rounded to TF32
    where they are written), or "flags", what torch's flags say when a pass runs.
    """

    average: bool
    tanh: bool
    compute: torch.dtype
    precision: str

    @property
    def conv_tf32(self) -> bool:
        """Whether convolutions multiply in TF32."""
        allowed = self.precision == "tf32" or (self.precision == "flags" and tf32_allowed())
        return self.compute == torch.float32 and allowed

    @property
    def exact(self) -> bool:
        """Whether convolutions multiply float32 numbers, in three parts each."""
        return self.compute == torch.float32 and not self.conv_tf32

    @property
    def linear_tf32(self) -> bool:
        """Whether linear layers multiply in TF32."""
        allowed = self.precision == "tf32" or (self.precision == "flags" and product_tf32_allowed())
        return self.compute == torch.float32 and allowed

    @property
    def arguments(self) -> dict[str, Any]:
        """The constants that every kernel takes."""
        return {
            "AVERAGE": self.average,
            "TANH": self.tanh,
            "DTYPE": self.type,
            "CONV_PRECISION": _TF32 if self.conv_tf32 else _FLOAT32,
            "PRECISION": _TF32 if self.linear_tf32 else _FLOAT32,
        }

    @property
    def type(self) -> Any:
        """`compute` as Triton names it."""
        return _TYPES[self.compute]

    def code_width(self, channels_padded: int, channels: int) -> tuple[int, torch.dtype]:
        """Entries a pooled pixel that backward needs of a pool, and their dtype: a byte each, or four slopes."""
        if self.average and self.tanh:
            return 4 * channels_padded, self.compute
        return channels, torch.uint8


def kept_shapes(g: LeNetGeometry, style: Style) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shape and dtype of y1, code1, y2, code2, h1, h2, the window matrices and the padded images, for backward."""
    width1, code1 = style.code_width(8, 8)
    width2, code2 = style.code_width(16, g.c2)
    return [
        ((g.n, g.pixels1, 8), style.compute),
        ((g.n, g.pixels1, width1), code1),
        ((g.n, g.features), style.compute),
        ((g.n, g.pixels2 * width2), code2),
        ((g.n, g.f1), style.compute),
        ((g.n, g.f2), style.compute),
        ((PACKED,), style.compute),
        ((g.n, *g.padded), style.compute),
    ]
