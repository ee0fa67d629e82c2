"""Networks without shortcuts or norms: AlexNet (2012, in its one-column form of 2014), VGG (2014), SqueezeNet 1.1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.width import channels

VGG11 = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
"""Channels of each 3x3 convolution; 0 is a max pool."""


class AlexNet(nn.Module):
    """Five convolutions and three linear layers; its forward is code, with functional ReLU and pools."""

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        super().__init__()
        c = [channels(n, width) for n in (64, 192, 384, 256, 256)]
        self.conv1 = nn.Conv2d(3, c[0], 11, stride=4, padding=2)
        self.conv2 = nn.Conv2d(c[0], c[1], 5, padding=2)
        self.conv3 = nn.Conv2d(c[1], c[2], 3, padding=1)
        self.conv4 = nn.Conv2d(c[2], c[3], 3, padding=1)
        self.conv5 = nn.Conv2d(c[3], c[4], 3, padding=1)
        self.dropout = nn.Dropout()
        hidden = channels(4096, width)
        self.fc1 = nn.Linear(c[4] * 36, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), H and W at least 63 -> (N, classes)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, stride=2)
        x = self.conv2(x)
        x = F.relu(x, inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2)
        x = torch.relu(self.conv3(x))
        x = self.conv4(x).relu_()
        x = self.conv5(x)
        x.relu_()
        x = F.max_pool2d(x, 3, 2)
        x = torch.flatten(F.adaptive_avg_pool2d(x, 6), 1)
        x = F.relu(self.fc1(self.dropout(x)))
        scores: Tensor = self.fc3(F.relu(self.fc2(self.dropout(x))))
        return scores


def vgg(plan: tuple[int, ...], width: float, classes: int) -> nn.Sequential:
    """The convolutions and pools of a plan, the average over the map, two linear layers."""
    layers: list[nn.Module] = []
    c = 3
    for count in plan:
        if count:
            k = channels(count, width)
            layers += [nn.Conv2d(c, k, 3, padding=1), nn.ReLU(inplace=True)]
            c = k
        else:
            layers.append(nn.MaxPool2d(2))
    hidden = channels(4096, width)
    head = [nn.Linear(c, hidden), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(hidden, classes)]
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def vgg11(width: float = 1.0, classes: int = 1000) -> nn.Sequential:
    """VGG's configuration A; (N, 3, H, W), H and W at least 32 -> (N, classes). One hidden linear layer, not two."""
    return vgg(VGG11, width, classes)


def vgg16(width: float = 1.0, classes: int = 1000) -> nn.Sequential:
    """VGG's configuration D; (N, 3, H, W), H and W at least 32 -> (N, classes). One hidden linear layer, not two."""
    return vgg(VGG16, width, classes)


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, then a 1x1 and a 3x3 beside each other that expand."""

    def __init__(self, c: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, 2 expand, H, W)."""
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1(x)), self.relu(self.expand3(x))], 1)


class SqueezeNet(nn.Sequential):
    """Fire modules and a convolution as classifier: no linear layer."""

    def __init__(self, width: float = 1.0, classes: int = 1000) -> None:
        stem = channels(64, width)
        layers: list[nn.Module] = [nn.Conv2d(3, stem, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
        c = stem
        for squeeze, expand in ((16, 64), (16, 64), (0, 0), (32, 128), (32, 128), (0, 0), (48, 192), (64, 256)):
            if squeeze:
                e = channels(expand, width)
                layers.append(Fire(c, channels(squeeze, width), e))
                c = 2 * e
            else:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        head = [nn.Dropout(), nn.Conv2d(c, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, *head)
