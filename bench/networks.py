"""The networks that are timed end to end, in torch's own layers: LeNet, a VGG-like and a ResNet-like one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 10


def lenet() -> nn.Sequential:
    """LeNet-5 on (N, 1, 28, 28); the parameters in the order of cnn.models.LeNet."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, CLASSES),
    )


def lenet_kernelbench() -> nn.Sequential:
    """KernelBench's LeNet-5 (level 3, problem 4): (N, 1, 32, 32), no padding, 20 classes; published at batch 4096."""
    return nn.Sequential(nn.Conv2d(1, 6, 5), *list(lenet())[1:-1], nn.Linear(84, 20))


def vgg_like() -> nn.Sequential:
    """Five 3x3 convolutions with ReLU and three max pools on (N, 3, 64, 64)."""
    layers: list[nn.Module] = []
    c = 3
    for k, pooled in ((64, False), (64, True), (128, False), (128, True), (256, True)):
        layers += [nn.Conv2d(c, k, 3, padding=1), nn.ReLU(inplace=True), *([nn.MaxPool2d(2)] if pooled else [])]
        c = k
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256 * 8 * 8, CLASSES))


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input is added, halving the image when stride is 2."""

    def __init__(self, c: int, k: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, k, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(k, k, 3, padding=1)
        self.relu = nn.ReLU()
        self.shortcut = nn.Conv2d(c, k, 1, stride=stride) if stride != 1 or c != k else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, k, H / stride, W / stride)."""
        y: Tensor = self.relu(self.conv2(self.relu(self.conv1(x))) + self.shortcut(x))
        return y


def resnet_like() -> nn.Sequential:
    """ResNet's 7x7 stem with its 3x3 max pool, then four residual blocks, on (N, 3, 64, 64)."""
    stem = [nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    blocks = [Residual(64, 64, 1), Residual(64, 128, 2), Residual(128, 128, 1), Residual(128, 256, 2)]
    return nn.Sequential(*stem, *blocks, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(256, CLASSES))


BUILDERS: dict[str, Callable[[], nn.Sequential]] = {
    "lenet": lenet,
    "lenet_kernelbench": lenet_kernelbench,
    "vgg_like": vgg_like,
    "resnet_like": resnet_like,
}
LENETS = {"lenet": 2, "lenet_kernelbench": 0}
"""The padding of the first convolution."""
IMAGES = {"lenet": (1, 28, 28), "lenet_kernelbench": (1, 32, 32), "vgg_like": (3, 64, 64), "resnet_like": (3, 64, 64)}


def build(name: str, seed: int = 0) -> nn.Sequential:
    """The network of that name with the weights of that seed, float32 on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BUILDERS[name]()
