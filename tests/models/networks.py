"""The networks of bench.models as the tests run them: whole on the CPU path, shallow and narrow in the interpreter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.models import MODELS
from bench.models.convnext import ConvNeXt
from bench.models.mobilenet import STAGES, MobileNetV2
from bench.models.plain import AlexNet, SqueezeNet, vgg
from bench.models.resnet import ResNet
from bench.models.unet import UNet

NAMES = sorted(MODELS)
CLASSES = 5
THIN = 1 / 16
SHALLOW: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (lambda: AlexNet(THIN, CLASSES), 63),
    "vgg11": (lambda: vgg((64, 0, 128, 0), THIN, CLASSES), 8),
    "vgg16": (lambda: vgg((64, 64, 0, 128, 128, 0), THIN, CLASSES), 8),
    "resnet18": (lambda: ResNet((1, 1), False, THIN, CLASSES), 8),
    "resnet50": (lambda: ResNet((1, 1), True, THIN, CLASSES), 8),
    "mobilenet_v2": (lambda: MobileNetV2(THIN, CLASSES, STAGES[:2]), 8),
    "squeezenet": (lambda: SqueezeNet(THIN, CLASSES), 17),
    "convnext": (lambda: ConvNeXt(THIN, CLASSES, 2), 8),
    "unet": (lambda: UNet(THIN, CLASSES, 1), 8),
}
IMAGE = 64
WIDTH = {"alexnet": 0.25, "vgg16": 0.25, "unet": 0.25, "vgg11": 0.5, "resnet50": 0.5}
"""Parts of the published width, where the whole would take a test more than a few seconds; 1 elsewhere."""


def whole(name: str) -> tuple[nn.Module, Tensor]:
    """The published network in evaluation mode with fixed weights, and two 64 x 64 images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name].build(WIDTH.get(name, 1.0), CLASSES)
        return model.eval(), torch.randn(2, 3, IMAGE, IMAGE)


def shallow(name: str) -> tuple[nn.Module, Tensor]:
    """The same blocks, few and narrow, on two images that just fit (one for AlexNet, whose images are the largest)."""
    build, side = SHALLOW[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval(), torch.randn(1 if name == "alexnet" else 2, 3, side, side)
