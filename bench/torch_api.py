"""The measured functions in torch's own operators, in the form that a careful user would write."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

conv2d = F.conv2d
avg_pool2d = F.avg_pool2d


def max_pool2d(x: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor:
    """torch's max pool, arguments by position as in this package's function."""
    return F.max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)


def conv2d_relu(*args: Any) -> Tensor:
    """The ReLU works in place: a convolution's output is not needed for its backward."""
    return F.relu(F.conv2d(*args), inplace=True)


def conv2d_relu_pool2d(*args: Any) -> Tensor:
    """With the 2x2 max pool of the networks in the case list."""
    return F.max_pool2d(conv2d_relu(*args), 2)
