"""LeNet-5 layer by layer: what the fused kernel has to equal, and the path of everything it does not run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.conv2d.op import conv2d, conv2d_relu_pool2d
from kernels.pool2d.op import avg_pool2d, max_pool2d


def lenet(x: Tensor, parameters: Sequence[Tensor], padding: int, average: bool, tanh: bool) -> Tensor:
    """x [n, 1, h, w] and the ten parameters -> scores [n, classes]; any order of derivative, any transform."""
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
    if tanh:
        pool = avg_pool2d if average else max_pool2d
        x = pool(torch.tanh(conv2d(x, w1, b1, padding=padding)), 2)
        x = pool(torch.tanh(conv2d(x, w2, b2)), 2)
    else:
        name = "avg" if average else "max"
        x = conv2d_relu_pool2d(x, w1, b1, padding=padding, pool=name)
        x = conv2d_relu_pool2d(x, w2, b2, pool=name)
    activation = torch.tanh if tanh else torch.relu
    h = activation(F.linear(x.flatten(1), w3, b3))
    return F.linear(activation(F.linear(h, w4, b4)), w5, b5)
