"""MobileNetV2 (2018): depthwise convolutions between two 1x1, and a shortcut between the narrow ends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.models.width import channels

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first) of each stage."""


def _unit(c: int, k: int, r: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(c, k, r, stride, r // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(k), nn.ReLU6(inplace=True)]


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow."""

    def __init__(self, c: int, k: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = c * expansion
        widen = _unit(c, wide, 1) if expansion > 1 else []
        narrow = [nn.Conv2d(wide, k, 1, bias=False), nn.BatchNorm2d(k)]
        self.layers = nn.Sequential(*widen, *_unit(wide, wide, 3, stride, groups=wide), *narrow)
        self.has_shortcut = stride == 1 and c == k

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, k, H / stride, W / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """The network of these stages; dropout before the linear layer."""

    def __init__(
        self, width: float = 1.0, classes: int = 1000, stages: tuple[tuple[int, int, int, int], ...] = STAGES
    ) -> None:
        super().__init__()
        c = channels(32, width)
        layers = _unit(3, c, 3, 2)
        for expansion, count, blocks, stride in stages:
            k = channels(count, width)
            for i in range(blocks):
                layers.append(InvertedResidual(c, k, stride if i == 0 else 1, expansion))
                c = k
        last = channels(1280, width)
        self.features = nn.Sequential(*layers, *_unit(c, last, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), H and W at least 32 -> (N, classes)."""
        x = torch.flatten(nn.functional.adaptive_avg_pool2d(self.features(x), (1, 1)), 1)
        scores: Tensor = self.fc(self.dropout(x))
        return scores
