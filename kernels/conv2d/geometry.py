"""The checked convolution problem: every size, and every mistake a caller can make, in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from kernels.common.arguments import Pair, is_int, pair

Pads = tuple[int, int, int, int]
"""Zero rows above, below, and zero columns left, right."""


@dataclass(frozen=True)
class Conv2dGeometry:
    """Input [n, c, h, w], weight [k, c / groups, r, s], output [n, k, p, q]."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    stride: Pair
    padding: Pads
    dilation: Pair
    groups: int

    @staticmethod
    def of(
        x_shape: Sequence[int], w_shape: Sequence[int], stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Conv2dGeometry:
        """The geometry of shapes that `check_tensors` and `check_window` accept."""
        n, c, h, w = x_shape
        k, _, r, s = w_shape
        return Conv2dGeometry(n, c, h, w, k, r, s, tuple(stride), tuple(padding), tuple(dilation), groups)  # type: ignore[arg-type]

    @property
    def p(self) -> int:
        """Output rows."""
        return int(output_size(self.h, self.padding[0] + self.padding[1], self.dilation[0], self.r, self.stride[0]))

    @property
    def q(self) -> int:
        """Output columns."""
        return int(output_size(self.w, self.padding[2] + self.padding[3], self.dilation[1], self.s, self.stride[1]))

    @property
    def c_group(self) -> int:
        """Input channels of one group."""
        return self.c // self.groups

    @property
    def k_group(self) -> int:
        """Output channels of one group."""
        return self.k // self.groups

    @property
    def turned(self) -> Conv2dGeometry:
        """For stride 1: the convolution that leads from the output gradient to the input gradient, its filters turned
        by 180 degrees. A padding wider than the kernel becomes negative: it cuts."""
        reach = (self.dilation[0] * (self.r - 1), self.dilation[1] * (self.s - 1))
        top, bottom, left, right = self.padding
        pads = (reach[0] - top, reach[0] - bottom, reach[1] - left, reach[1] - right)
        return replace(self, c=self.k, h=self.p, w=self.q, k=self.c, padding=pads)

    @property
    def phases(self) -> int:
        """Sets of input pixels that the same taps reach: equal rows and columns modulo the strides."""
        return self.stride[0] * self.stride[1]

    @property
    def phase_pixels(self) -> int:
        """Pixels of the largest phase in all images."""
        return self.n * -(-self.h // self.stride[0]) * -(-self.w // self.stride[1])

    @property
    def flops(self) -> int:
        """Multiplications and additions of the forward pass, padding included, as torch counts them."""
        return 2 * self.n * self.k * self.p * self.q * self.c_group * self.r * self.s


def output_size(size: Any, padding: Any, dilation: Any, taps: Any, stride: Any) -> Any:
    """floor((size + padding - dilation * (taps - 1) - 1) / stride) + 1, `padding` being the sum of both sides."""
    return (size + padding - dilation * (taps - 1) - 1) // stride + 1


def resolve_padding(padding: Any, w_shape: Sequence[int], stride: Pair, dilation: Pair, op: str) -> Pads:
    """torch's padding argument -> the four sides.

    'same' pads dilation * (taps - 1) in all; an odd total has its extra row and column at the end, as in torch.
    Raises RuntimeError for an unknown word, for 'same' with a stride, for negative values; TypeError for other types.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0, 0, 0)
        if padding != "same":
            raise RuntimeError(f"{op}: padding must be 'same', 'valid', an int or two ints, not {padding!r}")
        if stride[0] != 1 or stride[1] != 1:
            raise RuntimeError(f"{op}: padding='same' needs stride 1, not {stride}; pass the padding as numbers")
        total = [dilation[i] * (w_shape[2 + i] - 1) for i in (0, 1)]
        return (total[0] // 2, total[0] - total[0] // 2, total[1] // 2, total[1] - total[1] // 2)
    vertical, horizontal = pair(padding, op, "padding")
    if vertical < 0 or horizontal < 0:
        raise RuntimeError(f"{op}: negative padding {(vertical, horizontal)} is not supported; slice the input instead")
    return (vertical, vertical, horizontal, horizontal)


def check_numbers(stride: Any, dilation: Any, groups: Any, op: str) -> tuple[Pair, Pair]:
    """Stride and dilation as pairs. RuntimeError unless all are positive, TypeError unless all are integers."""
    stride, dilation = pair(stride, op, "stride"), pair(dilation, op, "dilation")
    if not is_int(groups):
        raise TypeError(f"{op}: groups must be an int, not {groups!r}")
    for name, values in (("stride", stride), ("dilation", dilation), ("groups", (groups,))):
        if min(values) < 1:
            raise RuntimeError(f"{op}: {name} must be positive, not {values if len(values) > 1 else values[0]}")
    return stride, dilation


def check_tensors(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, op: str) -> None:
    """RuntimeError unless ranks, channels, bias and devices fit together, as in torch."""
    if x.dim() not in (3, 4):
        raise RuntimeError(f"{op}: expected 3D (unbatched) or 4D (batched) input, got input of size {list(x.shape)}")
    if weight.dim() != 4:
        raise RuntimeError(f"{op}: expected a 4D weight, got weight of size {list(weight.shape)}")
    k, c_group = weight.shape[0], weight.shape[1]
    if k % groups or k < groups:
        raise RuntimeError(
            f"{op}: {k} output channels of weight {tuple(weight.shape)} cannot be split in {groups} groups"
        )
    if x.shape[-3] != c_group * groups:
        raise RuntimeError(
            f"{op}: input has {x.shape[-3]} channels, but weight {tuple(weight.shape)} with groups={groups} "
            f"expects {c_group * groups}"
        )
    if 0 in (k, weight.shape[2], weight.shape[3]):
        raise RuntimeError(f"{op}: weight {tuple(weight.shape)} has an empty kernel or no output channel")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != k):
        raise RuntimeError(
            f"{op}: weight of size {list(weight.shape)} expects bias of size [{k}], got {list(bias.shape)}"
        )
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.device != x.device:
            raise RuntimeError(f"{op}: input is on {x.device}, but {name} on {other.device}; move one of them")


def check_dtypes(op: str, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """RuntimeError unless input, weight and bias have one dtype (autocast has already cast them)."""
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.dtype != x.dtype:
            raise RuntimeError(f"{op}: input is {x.dtype}, but {name} is {other.dtype}; cast one of them")


def check_window(x: Tensor, weight: Tensor, padding: Pads, dilation: Pair, op: str) -> None:
    """RuntimeError when the dilated kernel is larger than the padded input."""
    padded = (x.shape[-2] + padding[0] + padding[1], x.shape[-1] + padding[2] + padding[3])
    kernel = tuple(dilation[i] * (weight.shape[2 + i] - 1) + 1 for i in (0, 1))
    if kernel[0] > padded[0] or kernel[1] > padded[1]:
        raise RuntimeError(
            f"{op}: padded input is {padded[0]} x {padded[1]}, the dilated kernel {kernel[0]} x {kernel[1]}: "
            "the kernel must not be larger than the input"
        )
