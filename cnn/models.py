"""The models: LeNet, MLP, GapCNN and FilterNet, each rebuilt from its `config` (plain numbers, strings, lists)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnn.errors import UserError
from kernels import AvgPool2d, Conv2d, ConvReLU2d, ConvReLUPool2d, MaxPool2d
from kernels.lenet import lenet

Config = dict[str, Any]
# Left to right, right to left, top to bottom, bottom to top: from dark to light.
EDGES = torch.tensor([[-1.0, -1.0, 1.0, 1.0]] * 4)
EDGE_FILTERS = torch.stack([EDGES, -EDGES, EDGES.T, -EDGES.T])


class LeNet(nn.Module):
    """LeNet-5 on (N, 1, 28, 28) images in 0..1, giving (N, classes) scores; 61,706 parameters for 10 classes.

    conv1 (1 -> 6, 5x5, padding 2), pool 2, conv2 (6 -> 16, 5x5), pool 2, fc1 (400 -> 120), fc2 (84), fc3 (classes).
    pool: "max" or "avg". activation: "relu", where conv1 and conv2 are one kernel each (convolution, bias, ReLU and
    pool), or "tanh" as in LeCun et al. 1998, where the steps are apart. Raises ValueError for other names.
    fused: the whole network is one kernel, and all its gradients three more (kernels.lenet); hooks on its layers do not
    fire then. The attribute may be changed at any time, and is no part of `config`: the network is the same.
    """

    def __init__(self, pool: str = "max", activation: str = "relu", classes: int = 10, fused: bool = False) -> None:
        super().__init__()
        if pool not in ("max", "avg"):
            raise ValueError(f"LeNet: pool must be 'max' or 'avg', not {pool!r}")
        if activation not in ("relu", "tanh"):
            raise ValueError(f"LeNet: activation must be 'relu' or 'tanh', not {activation!r}")
        self.config: Config = {"pool": pool, "activation": activation, "classes": classes}
        self.fused = fused
        if activation == "relu":
            self.conv1: Conv2d = ConvReLUPool2d(1, 6, 5, padding=2, pool=pool)
            self.conv2: Conv2d = ConvReLUPool2d(6, 16, 5, pool=pool)
            self.act: nn.Module = nn.ReLU()
        else:
            self.conv1 = Conv2d(1, 6, 5, padding=2)
            self.conv2 = Conv2d(6, 16, 5)
            self.act = nn.Tanh()
            self.pool = MaxPool2d(2) if pool == "max" else AvgPool2d(2)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def features(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> the maps after both pools, (N, 16, 5, 5)."""
        if self.config["activation"] == "relu":
            maps: Tensor = self.conv2(self.conv1(x))
        else:
            maps = self.pool(self.act(self.conv2(self.pool(self.act(self.conv1(x))))))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, classes) scores before softmax."""
        if self.fused:
            layers = (self.conv1, self.conv2, self.fc1, self.fc2, self.fc3)
            parameters = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None]
            return lenet(x, parameters, pool=self.config["pool"], activation=self.config["activation"])
        x = self.features(x).flatten(1)
        scores: Tensor = self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))
        return scores


class MLP(nn.Module):
    """784-512-512-classes with ReLU and dropout: no convolution, 669,706 parameters for 10 classes."""

    def __init__(self, dropout: float = 0.2, classes: int = 10) -> None:
        super().__init__()
        self.config: Config = {"dropout": dropout, "classes": classes}
        self.fc1 = nn.Linear(784, 512)
        self.fc2 = nn.Linear(512, 512)
        self.fc3 = nn.Linear(512, classes)
        self.act = nn.ReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, classes) scores before softmax."""
        x = self.dropout(self.act(self.fc1(x.flatten(1))))
        scores: Tensor = self.fc3(self.dropout(self.act(self.fc2(x))))
        return scores


class GapCNN(nn.Module):
    """Three 3x3 convolutions (16, 32, 64) and a global max pool: 23,946 parameters for 10 classes.

    The global maximum forgets where a feature was, so that a moved digit keeps its score.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.config: Config = {"classes": classes}
        self.conv1 = ConvReLUPool2d(1, 16, 3, padding=1)
        self.conv2 = ConvReLUPool2d(16, 32, 3, padding=1)
        self.conv3 = ConvReLU2d(32, 64, 3, padding=1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) -> (N, classes) scores before softmax."""
        scores: Tensor = self.fc(self.conv3(self.conv2(self.conv1(x))).amax((2, 3)))
        return scores


class FilterNet(nn.Module):
    """Given filters as a network: convolution without bias, ReLU, max pool 2; (N, 1, H, W) -> (N, filters, ...).

    filters: (count, kH, kW), by default four 4x4 edge filters. Nothing is trained: the weights equal the filters.
    """

    def __init__(self, filters: Tensor | list[list[list[float]]] = EDGE_FILTERS) -> None:
        super().__init__()
        weight = torch.as_tensor(filters, dtype=torch.float32)
        if weight.dim() != 3:
            raise ValueError(f"FilterNet: filters must be (count, height, width), not {tuple(weight.shape)}")
        self.config: Config = {"filters": weight.tolist()}
        count, height, width = weight.shape
        self.conv = ConvReLUPool2d(1, count, (height, width), bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(weight[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """The pooled maps, one a filter."""
        maps: Tensor = self.conv(x)
        return maps


MODELS: dict[str, type[nn.Module]] = {"lenet": LeNet, "mlp": MLP, "gap": GapCNN, "filternet": FilterNet}


def build(name: str, config: Config | None = None) -> nn.Module:
    """The model of that name; UserError for an unknown name or a setting that the model does not have."""
    if name not in MODELS:
        raise UserError(f"model {name!r} is unknown; choose from {', '.join(MODELS)}")
    try:
        return MODELS[name](**(config or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"model {name}: {error}") from error


def name_of(model: nn.Module) -> str:
    """The name that `build` knows; UserError for any other class."""
    for name, cls in MODELS.items():
        if type(model) is cls:
            return name
    raise UserError(f"{type(model).__name__} is not one of this package's models: {', '.join(MODELS)}")


def set_fused(model: nn.Module, fused: bool) -> nn.Module:
    """The same model; a LeNet runs whole from now on, or layer by layer."""
    if isinstance(model, LeNet):
        model.fused = fused
    return model


def parameter_count(model: nn.Module) -> int:
    """The number of trained values, weights and biases."""
    return sum(p.numel() for p in model.parameters())


def probabilities(scores: Tensor) -> Tensor:
    """Scores (N, classes) -> probabilities that sum to 1 in each row, in float32."""
    return F.softmax(scores.float(), dim=-1)
