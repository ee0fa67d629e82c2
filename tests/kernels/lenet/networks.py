"""LeNets to test: parameters of any size, real digits, and the answer of torch's own operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnn.data.digits import load_digits


@dataclass(frozen=True)
class Network:
    """A case: n images of side x side, and the sizes of the network."""

    name: str
    n: int
    side: int = 28
    padding: int = 2
    pool: str = "max"
    activation: str = "relu"
    classes: int = 10
    channels: tuple[int, int] = (6, 16)
    hidden: tuple[int, int] = (120, 84)

    def __str__(self) -> str:
        return self.name

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of kernels.lenet's functions."""
        return {"padding": self.padding, "pool": self.pool, "activation": self.activation}

    def parameters(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Ten parameters as torch's layers start them, requiring gradients."""
        c1, c2 = self.channels
        f1, f2 = self.hidden
        pooled = ((self.side + 2 * self.padding - 4) // 2 - 4) // 2
        layers = [torch.nn.Conv2d(1, c1, 5), torch.nn.Conv2d(c1, c2, 5), torch.nn.Linear(c2 * pooled**2, f1)]
        layers += [torch.nn.Linear(f1, f2), torch.nn.Linear(f2, self.classes)]
        return [p.detach().to(device, dtype).requires_grad_() for layer in layers for p in layer.parameters()]

    def images(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
        """Real digits where they fit, noise for other sizes."""
        x = digits()[0][: self.n] if self.side == 28 else torch.rand(self.n, 1, self.side, self.side)
        return x.to(device, dtype, copy=True)

    def labels(self, device: str = "cpu") -> Tensor:
        """Some class for each image."""
        return (torch.arange(self.n, device=device) * 7) % self.classes


@cache
def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's training digits and their labels."""
    data = load_digits()
    return data.train_images, data.train_labels


def by_torch(x: Tensor, parameters: Sequence[Tensor], network: Network) -> Tensor:
    """The scores by torch's operators, in the dtype of the tensors."""
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
    activation = torch.tanh if network.activation == "tanh" else torch.relu
    pool = F.avg_pool2d if network.pool == "avg" else F.max_pool2d
    x = pool(activation(F.conv2d(x, w1, b1, padding=network.padding)), 2)
    x = pool(activation(F.conv2d(x, w2, b2)), 2).flatten(1)
    return F.linear(activation(F.linear(activation(F.linear(x, w3, b3)), w4, b4)), w5, b5)


def relative(ours: Tensor, want: Tensor) -> float:
    """The norm of the difference over the norm of what is wanted."""
    difference = (ours.detach().double() - want.detach().double()).norm()
    return float(difference / want.detach().double().norm().clamp_min(1e-30))
