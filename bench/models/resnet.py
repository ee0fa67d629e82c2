"""Residual networks (2015) in the form whose 3x3 convolution carries the stride."""

from __future__ import annotations

from torch import Tensor, nn

from bench.models.width import channels


class Block(nn.Module):
    """Convolutions with batch norm around which the input is added; `kernels` are their sizes."""

    def __init__(self, c: int, mid: int, k: int, stride: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        widths = [c, *[mid] * (len(kernels) - 1), k]
        for i, r in enumerate(kernels):
            step = stride if i == kernels.index(3) else 1
            conv = nn.Conv2d(widths[i], widths[i + 1], r, step, r // 2, bias=False)
            layers += [conv, nn.BatchNorm2d(widths[i + 1]), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers[:-1])
        self.relu = layers[-1]
        self.shortcut: nn.Module | None = None
        if stride != 1 or c != k:
            self.shortcut = nn.Sequential(nn.Conv2d(c, k, 1, stride, bias=False), nn.BatchNorm2d(k))

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, k, H / stride, W / stride)."""
        y: Tensor = self.relu(self.body(x) + (x if self.shortcut is None else self.shortcut(x)))
        return y


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, average over the map, one linear layer."""

    def __init__(self, depths: tuple[int, ...], bottleneck: bool, width: float, classes: int) -> None:
        super().__init__()
        c = channels(64, width)
        self.conv = nn.Conv2d(3, c, 7, 2, 3, bias=False)
        self.norm = nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            mid = channels(64 * 2**stage, width)
            k = 4 * mid if bottleneck else mid
            for i in range(depth):
                stride = 2 if i == 0 and stage else 1
                blocks.append(Block(c, mid, k, stride, (1, 3, 1) if bottleneck else (3, 3)))
                c = k
        self.blocks = nn.Sequential(*blocks)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), H and W at least 32 -> (N, classes)."""
        x = self.conv(x)
        x = self.norm(x)
        x = self.relu(x)
        x = self.blocks(self.pool(x))
        scores: Tensor = self.fc(self.average(x).flatten(1))
        return scores


def resnet18(width: float = 1.0, classes: int = 1000) -> ResNet:
    """Two blocks of two 3x3 convolutions a stage."""
    return ResNet((2, 2, 2, 2), False, width, classes)


def resnet50(width: float = 1.0, classes: int = 1000) -> ResNet:
    """Blocks of 1x1, 3x3 and 1x1 convolutions, the last four times as wide."""
    return ResNet((3, 4, 6, 3), True, width, classes)
