"""The checked pooling problem: every size, and every mistake a caller can make, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kernels.common.arguments import Pair, pair


@dataclass(frozen=True)
class Pool2dGeometry:
    """Window [kh, kw] over planes [h, w]; `p` and `q` follow torch's rule."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool

    def output(self, h: Any, w: Any) -> tuple[Any, Any]:
        """Rows and columns of the pooled plane."""
        return self._size(h, 0), self._size(w, 1)

    def _size(self, size: Any, axis: int) -> Any:
        stride, padding = self.stride[axis], self.padding[axis]
        room = size + 2 * padding - self.dilation[axis] * (self.kernel[axis] - 1) - 1
        count = (room + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        # The last window of ceil_mode must start inside the image or its left padding.
        if self.ceil_mode and (count - 1) * stride >= size + padding:
            count -= 1
        return count


def window(op: str, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any) -> Pool2dGeometry:
    """The window from torch's arguments. TypeError for other types, RuntimeError for sizes torch refuses."""
    kernel = pair(kernel_size, op, "kernel_size")
    empty_stride = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    stride = kernel if empty_stride else pair(stride, op, "stride")
    padding, dilation = pair(padding, op, "padding"), pair(dilation, op, "dilation")
    for name, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) < 1:
            raise RuntimeError(f"{op}: {name} must be positive, not {values}")
    if min(padding) < 0:
        raise RuntimeError(f"{op}: padding must not be negative, got {padding}")
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise RuntimeError(f"{op}: padding must be at most half of kernel_size, got {padding} for {kernel}")
    return Pool2dGeometry(kernel, stride, padding, dilation, bool(ceil_mode))


def check_input(op: str, x: Tensor, geometry: Pool2dGeometry) -> None:
    """RuntimeError unless the input is 3D or 4D, not empty but for its batch, and at least one window fits.

    IndexError for avg_pool2d of fewer dimensions: torch's type.
    """
    if x.dim() not in (3, 4) or 0 in x.shape[-3:]:
        kind = IndexError if op == "avg_pool2d" and x.dim() < 3 else RuntimeError
        raise kind(
            f"{op}: expected a 3D or 4D input whose channels, rows and columns are not empty, got {list(x.shape)}"
        )
    p, q = geometry.output(x.shape[-2], x.shape[-1])
    if p < 1 or q < 1:
        raise RuntimeError(
            f"{op}: window {geometry.kernel} with dilation {geometry.dilation} and padding {geometry.padding} does not "
            f"fit in an input of {x.shape[-2]} x {x.shape[-1]}: output size would be {p} x {q}"
        )
