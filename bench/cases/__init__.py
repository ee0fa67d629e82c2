"""What is measured: one layer or one network, one pass, one batch, one precision."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

NETWORKS_FILE = Path(__file__).with_name("networks.json")
WORKS = ("inference", "fprop", "dgrad", "wgrad", "training")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Layer:
    """A convolution or pool as it stands in a real network. Sizes in elements; `count` is how often it occurs there.

    op: "conv2d", "max_pool2d" or "avg_pool2d". after: what follows a convolution there ("relu", "relu+max2", ...).
    batch: 0, or the only batch that the problem is defined for.
    """

    network: str
    name: str
    op: str
    c: int
    h: int
    w: int
    kernel: Pair
    stride: Pair
    padding: Pair
    count: int
    k: int = 0
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = False
    after: str | None = None
    ceil_mode: bool = False
    batch: int = 0

    @property
    def out(self) -> Pair:
        """Height and width of the output."""
        return self._size(self.h, 0), self._size(self.w, 1)

    def _size(self, size: int, i: int) -> int:
        span = size + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1
        if not self.ceil_mode:
            return span // self.stride[i] + 1
        out = -(-span // self.stride[i]) + 1
        # torch drops a last window that would start in the right padding.
        return out - 1 if (out - 1) * self.stride[i] >= size + self.padding[i] else out

    @property
    def k_out(self) -> int:
        """Channels of the output."""
        return self.k or self.c

    @property
    def macs(self) -> int:
        """Multiply-adds of one image; 0 for a pool."""
        if self.op != "conv2d":
            return 0
        p, q = self.out
        return self.k * p * q * (self.c // self.groups) * self.kernel[0] * self.kernel[1]

    @property
    def from_image(self) -> bool:
        """Whether its input is the image itself, which needs no gradient."""
        return self.op == "conv2d" and self.c <= 3


@dataclass(frozen=True)
class Case:
    """One thing to time.

    op: "conv2d", "conv2d_relu", "conv2d_relu_pool2d", "max_pool2d", "avg_pool2d" or "network".
    work: "inference" (no gradients), "fprop" (forward that keeps what backward needs), "dgrad", "wgrad",
    "training" (forward and backward; for a network also loss and SGD step).
    precision: "fp32" (ieee), "tf32", "fp16" or "bf16".
    """

    network: str
    op: str
    work: str
    batch: int
    precision: str = "fp32"
    layer: Layer | None = None

    @property
    def name(self) -> str:
        """Unique and readable: network/layer/op/work/batch/precision."""
        where = f"{self.network}/{self.layer.name}/{self.op}" if self.layer else self.network
        return f"{where}/{self.work}/n{self.batch}/{self.precision}"

    def with_(self, **changes: Any) -> Case:
        """The same case with other values."""
        return replace(self, **changes)


@cache
def networks() -> dict[str, tuple[Layer, ...]]:
    """The layers of every network in the data file, each unique shape once."""
    data = json.loads(NETWORKS_FILE.read_text())
    return {name: tuple(_layer(name, entry) for entry in entries) for name, entries in data.items()}


def _layer(network: str, entry: dict[str, Any]) -> Layer:
    pairs = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return Layer(network=network, **{**entry, **pairs})


def layer(network: str, name: str) -> Layer:
    """The layer of that name; KeyError if there is none."""
    for candidate in networks()[network]:
        if candidate.name == name:
            return candidate
    raise KeyError(f"{network} has no layer {name!r}")
