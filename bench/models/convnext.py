"""ConvNeXt (2022), cut to one block a stage: 7x7 depthwise convolution, layer norm, two linear layers, a scale."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.width import channels


class ConvNeXtBlock(nn.Module):
    """The depthwise convolution runs on (N, C, H, W), the rest on (N, H, W, C)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c, c, 7, padding=3, groups=c)
        self.norm = nn.LayerNorm(c, eps=1e-6)
        self.widen = nn.Linear(c, 4 * c)
        self.narrow = nn.Linear(4 * c, c)
        self.scale = nn.Parameter(torch.full((c,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, H, W) -> the same shape."""
        y: Tensor = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.widen(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """A 4x4 stem with stride 4, then blocks with 2x2 convolutions of stride 2 between them."""

    def __init__(self, width: float = 1.0, classes: int = 1000, count: int = 4) -> None:
        super().__init__()
        widths = [channels(96 * 2**i, width) for i in range(count)]
        self.stem = nn.Conv2d(3, widths[0], 4, stride=4)
        stages: list[nn.Module] = [ConvNeXtBlock(widths[0])]
        for c, k in pairwise(widths):
            stages += [nn.GroupNorm(1, c), nn.Conv2d(c, k, 2, stride=2), ConvNeXtBlock(k)]
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), H and W at least 32 -> (N, classes)."""
        scores: Tensor = self.fc(self.stages(self.stem(x)).mean((2, 3)))
        return scores
