"""Tuning: which plan is fastest for a bucket of problems, and whether torch is faster still.

Every legal plan is ranked by the model of kernels/common/roofline.py; the best are compiled, those that spill or do not
fit dropped, the rest ranked again with their instructions; the first few are checked against float64 and timed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.cases import Case, Layer, networks
from bench.problem import DTYPES
from cnn.errors import UserError
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import PASSES as CONVOLUTIONS
from kernels.pool2d.geometry import Pool2dGeometry
from kernels.tuned.bucket import Bucket

PASSES = (*CONVOLUTIONS, "max_pool", "avg_pool")
PRECISIONS = {"fp16": "half", "bf16": "half", "tf32": "tf32", "fp32": "float32"}
# The layers of a set, most telling first: what the README claims, then whole networks.
SETS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "smoke": {"lenet": ("conv1", "conv2", "pool1")},
    # What a study of the kernels doubted: the batch as the tall side, alone or in boxes of pixels, against the gather,
    # from large images to small.
    "doubtful": {
        "resnet50": ("layer1.0.conv2", "layer2.1.conv2", "layer3.1.conv2", "layer4.1.conv2", "layer3.0.conv2"),
        "mobilenetv2": ("features.5.conv.1.0",),
    },
    "headline": {
        "resnet50": ("layer3.1.conv2", "layer1.0.conv2", "layer3.0.conv2", "layer4.1.conv2", "conv1", "maxpool"),
        "vgg16": ("features.2", "features.7", "features.12"),
        "mobilenetv2": ("features.5.conv.1.0", "features.2.conv.1.0", "features.5.conv.0.0"),
        "lenet": ("conv1", "conv2", "pool1"),
        "alexnet": ("features.0",),
        "convnext_t": ("features.0.0", "features.1.0.block.0"),
    },
    "all": dict.fromkeys(("resnet50", "vgg16", "mobilenetv2", "lenet", "alexnet", "convnext_t")),
}


@dataclass(frozen=True)
class Target:
    """A pass of a layer at one batch and precision ("fp16", "bf16", "tf32", "fp32"): what stands for its bucket."""

    layer: Layer
    batch: int
    precision: str
    which: str

    @property
    def name(self) -> str:
        """Unique and readable."""
        return f"{self.layer.network}/{self.layer.name}/{self.which}/n{self.batch}/{self.precision}"

    @property
    def is_pool(self) -> bool:
        """Whether there is no plan to choose."""
        return self.which in ("max_pool", "avg_pool")

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return DTYPES[self.precision].itemsize

    @cached_property
    def geometry(self) -> Conv2dGeometry:
        """Of a convolution."""
        a = self.layer
        (top, left), window = a.padding, (a.c, a.h, a.w, a.k, *a.kernel)
        return Conv2dGeometry(self.batch, *window, a.stride, (top, top, left, left), a.dilation, a.groups)

    @cached_property
    def bucket(self) -> Bucket:
        """Where its measurement is kept."""
        a, precision = self.layer, PRECISIONS[self.precision]
        if not self.is_pool:
            return Bucket.of(self.which, self.geometry, precision)
        pool = Pool2dGeometry(a.kernel, a.stride, a.padding, a.dilation, a.ceil_mode)
        return Bucket.of_pool(self.which, (self.batch, a.c, a.h, a.w), pool, precision)

    def cases(self) -> dict[str, Case]:
        """operation of kernels/tuned/router.py -> the benchmark case that times it; the first one chooses the plan."""

        def case(op: str, work: str) -> Case:
            return Case(self.layer.network, op, work, self.batch, self.precision, self.layer)

        op = "conv2d_relu_pool2d" if self.which == "fprop_pool" else f"{self.which}2d"
        if self.which == "fprop":
            found = {name: case(name, "inference") for name in ("conv2d", "conv2d_relu")}
            return found if self.layer.after else {"conv2d": found["conv2d"]}
        if self.which in ("dgrad", "wgrad"):
            return {f"conv2d_{self.which}": case("conv2d", self.which)}
        return {op: case(op, "inference"), f"{op} training": case(op, "training")}


def targets(name: str, passes: Sequence[str], precisions: Sequence[str], batches: Sequence[int]) -> list[Target]:
    """The targets of a set, one a bucket, in the order in which they are tuned; UserError for unknown words."""
    for what, given, known in (("set", [name], SETS), ("pass", passes, PASSES), ("dtype", precisions, PRECISIONS)):
        unknown = set(given) - set(known)
        if unknown:
            raise UserError(f"{what} {' '.join(sorted(unknown))} is unknown; choose from {', '.join(known)}")
    if not batches or min(batches) < 1:
        raise UserError(f"--batch must be positive, got {' '.join(map(str, batches))}")
    found: dict[Bucket, Target] = {}
    for precision in precisions:
        for batch in batches:
            for layer in _layers(name):
                for which in passes_of(layer):
                    target = Target(layer, batch, precision, which)
                    if which in passes:
                        found.setdefault(target.bucket, target)
    return list(found.values())


def _layers(name: str) -> Iterator[Layer]:
    for network, chosen in SETS[name].items():
        for layer in networks()[network]:
            if chosen is None or layer.name in chosen:
                yield layer


def passes_of(layer: Layer) -> list[str]:
    """What training asks of a layer."""
    if layer.op != "conv2d":
        return [layer.op.removesuffix("2d")]
    fused = ["fprop_pool"] if layer.after == "relu+max2" and layer.groups == 1 else []
    return ["fprop", *fused, *([] if layer.from_image else ["dgrad"]), "wgrad"]
