"""The networks by name, with the image sizes at which each is tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bench.models.convnext import ConvNeXt
from bench.models.mobilenet import MobileNetV2
from bench.models.plain import AlexNet, SqueezeNet, vgg11, vgg16
from bench.models.resnet import resnet18, resnet50
from bench.models.unet import UNet


@dataclass(frozen=True)
class Model:
    """A network: build(width, classes) makes it, with every channel count times `width`.

    image is the side in pixels of the images it was published for, small one that still leaves a pixel at its end.
    """

    build: Callable[[float, int], nn.Module]
    image: int
    small: int


MODELS = {
    "alexnet": Model(AlexNet, 224, 63),
    "vgg11": Model(vgg11, 224, 32),
    "vgg16": Model(vgg16, 224, 32),
    "resnet18": Model(resnet18, 224, 32),
    "resnet50": Model(resnet50, 224, 32),
    "mobilenet_v2": Model(MobileNetV2, 224, 32),
    "squeezenet": Model(SqueezeNet, 224, 32),
    "convnext": Model(ConvNeXt, 224, 32),
    "unet": Model(UNet, 256, 16),
}


def build(name: str, *, width: float = 1.0, classes: int = 1000, seed: int = 0) -> nn.Module:
    """The network of that name with the weights of that seed, float32 on the CPU, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name].build(width, classes)
