"""The named sets of cases, most important first, and the choice of some of them by pattern."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch

from bench.cases import Case, Layer, layer, networks
from cnn.errors import UserError

SETS = ("smoke", "goals", "headline", "cpu", "all")
BATCHES = (1, 32, 256)


def ops_of(found: Layer) -> list[str]:
    """The functions that run this layer: alone, with its ReLU, with its ReLU and 2x2 max pool."""
    fused = {"relu": ["conv2d_relu"], "relu+max2": ["conv2d_relu", "conv2d_relu_pool2d"]}
    return [found.op, *fused.get(found.after or "", [])]


def _at(network: str, name: str, op: str, works: str, batches: Sequence[int], precision: str = "fp32") -> list[Case]:
    return [
        Case(network, op, work, batch, precision, layer(network, name)) for work in works.split() for batch in batches
    ]


def _net(network: str, works: str, batches: Sequence[int], precision: str = "fp32") -> list[Case]:
    return [Case(network, "network", work, batch, precision) for work in works.split() for batch in batches]


def smoke() -> list[Case]:
    """One tiny case of each function and each pass: seconds on any machine."""
    return [
        *_net("lenet", "inference training", [4]),
        *_at("lenet", "conv2", "conv2d", "fprop dgrad wgrad training", [2]),
        *_at("lenet", "conv2", "conv2d_relu", "inference training", [2]),
        *_at("lenet", "conv2", "conv2d_relu_pool2d", "inference training", [2]),
        *_at("lenet", "pool1", "max_pool2d", "inference training", [2]),
        *_at("lenet", "pool1.avg", "avg_pool2d", "inference training", [2]),
    ]


def cpu() -> list[Case]:
    """What `make bench` measures: batches that a CPU user runs, and every case of report/goals.py."""
    return [
        *_net("lenet", "inference training", [1, 16, 64, 256, 1024]),
        *_net("lenet", "inference training", [64], "bf16"),
        *_at("lenet", "conv1", "conv2d_relu_pool2d", "inference training", [64]),
        *_at("lenet", "conv2", "conv2d_relu_pool2d", "inference training", [64]),
        *_at("lenet", "conv2", "conv2d", "inference fprop dgrad wgrad training", [64]),
        *_at("lenet", "pool1", "max_pool2d", "inference training", [16, 64]),
        *_at("lenet", "pool2", "max_pool2d", "inference training", [256]),
        *_at("lenet", "pool1.avg", "avg_pool2d", "inference training", [64]),
        *_at("pools", "64x112", "max_pool2d", "inference training", [1]),
        *_at("pools", "64x56", "max_pool2d", "inference training", [16]),
        *_at("vgg16", "features.30", "max_pool2d", "inference training", [1]),
        *_at("vgg16", "features.4", "max_pool2d", "inference training", [1]),
        *_at("resnet50", "maxpool", "max_pool2d", "inference training", [1]),
        *_at("alexnet", "features.2", "max_pool2d", "inference", [1]),
        *_at("resnet50", "conv1", "conv2d_relu", "inference training", [1]),
        *_at("vgg16", "features.0", "conv2d_relu", "inference", [1]),
        *_at("mobilenetv2", "features.0.0", "conv2d_relu", "inference", [1]),
        *_at("alexnet", "features.0", "conv2d_relu", "inference", [1]),
        *_at("resnet50", "layer1.0.conv2", "conv2d_relu", "inference training", [1]),
        *_at("resnet50", "layer1.0.conv3", "conv2d", "inference", [1]),
        *_at("resnet50", "layer2.0.conv1", "conv2d_relu", "inference", [1]),
        *_at("resnet50", "layer3.1.conv2", "conv2d_relu", "inference", [1]),
        *_at("resnet50", "layer4.1.conv2", "conv2d_relu", "inference", [1]),
        *_at("vgg16", "features.2", "conv2d_relu_pool2d", "inference training", [1]),
        *depthwise(),
        *_at("convnext_t", "features.1.0.block.0", "conv2d", "inference training", [1]),
        *_net("vgg_like", "inference training", [8]),
        *_net("resnet_like", "inference training", [8]),
        *_at("tiny", "conv", "conv2d", "inference training", [1]),
        *_at("tiny", "pool", "max_pool2d", "inference training", [1]),
        *sweep(1),
    ]


def depthwise() -> list[Case]:
    """Every 3x3 depthwise shape of MobileNetV2, three of them also with more images or gradients."""
    found = [x for x in networks()["mobilenetv2"] if x.groups > 1]
    more = [
        *_at("mobilenetv2", "features.8.conv.1.0", "conv2d", "inference", [16]),
        *_at("mobilenetv2", "features.2.conv.1.0", "conv2d", "training", [1]),
        *_at("mobilenetv2", "features.5.conv.1.0", "conv2d", "training", [1]),
    ]
    return [*(Case("mobilenetv2", "conv2d", "inference", 1, "fp32", x) for x in found), *more]


def sweep(batch: int, precision: str = "fp32") -> list[Case]:
    """Cost against image size and against channels: 3x3 convolution and ReLU, one thing changed at a time."""
    return [Case("sweep", "conv2d_relu", "inference", batch, precision, found) for found in networks()["sweep"]]


DENSE = {
    "resnet50": tuple(f"layer{n}.{i}.conv2" for n in (3, 2, 4) for i in (1, 0)),
    "vgg16": tuple(f"features.{n}" for n in (7, 12, 19, 24, 10, 17)),
}
"""Every 3x3 convolution of 128 channels and more in two networks."""


def goals() -> list[Case]:
    """What this package was written to reach on a card (report/goals.py), most doubtful first: large convolutions
    against cuDNN, blocks with their pool, depthwise convolutions, pools."""
    found: list[Case] = []
    for network, batch in (("resnet50", 256), ("vgg16", 64)):
        for name in DENSE[network]:
            strided = layer(network, name).stride != (1, 1)
            works = "inference dgrad wgrad" if strided else "inference wgrad"
            found += _at(network, name, "conv2d", works, [batch], "fp16")
            found += _at(network, name, "conv2d_relu", "inference", [batch], "fp16")
    found += _at("vgg16", "features.2", "conv2d_relu_pool2d", "training", [64], "fp16")
    found += _at("stems", "rgb-64x224", "conv2d_relu_pool2d", "training", [64], "fp16")
    for name in ("conv1", "conv2"):
        found += _at("lenet", name, "conv2d_relu_pool2d", "training", [4096])
    depthwise = (("mobilenetv2", "features.5.conv.1.0"), ("mobilenetv2", "features.2.conv.1.0"))
    for network, name in (*depthwise, ("depthwise", "120x28-5x5"), ("depthwise", "72x56-5x5-2")):
        found += _at(network, name, "conv2d", "inference dgrad wgrad", [256], "fp16")
    found += _at("mobilenetv2", "features.5.conv.1.0", "conv2d", "inference dgrad wgrad", [256])
    found += _at("resnet50", "maxpool", "max_pool2d", "training", [256], "fp16")
    found += _at("pools", "64x112", "max_pool2d", "training", [256], "fp16")
    found += _at("kernelbench", "L2-46.pool", "avg_pool2d", "training", [128], "fp16")
    return found


def headline() -> list[Case]:
    """What a card is asked first: its goals, then the claims of the README in the precision that people use there:
    fused blocks and pools, then small networks."""
    return [
        *goals(),
        *_at("resnet50", "layer1.0.conv2", "conv2d_relu", "inference training", [256], "fp16"),
        *_at("resnet50", "layer3.1.conv2", "conv2d_relu", "inference training", [256], "fp16"),
        *_at("resnet50", "layer3.1.conv2", "conv2d", "fprop dgrad wgrad", [256], "fp16"),
        *_at("resnet50", "layer3.0.conv2", "conv2d", "fprop dgrad wgrad", [256], "fp16"),
        *_at("vgg16", "features.2", "conv2d_relu_pool2d", "inference training", [64], "fp16"),
        *_at("resnet50", "maxpool", "max_pool2d", "inference training", [256], "fp16"),
        *_at("mobilenetv2", "features.5.conv.1.0", "conv2d", "inference training", [256], "fp16"),
        *_at("convnext_t", "features.1.0.block.0", "conv2d", "inference training", [256], "fp16"),
        *_at("resnet50", "conv1", "conv2d_relu", "inference training", [256], "fp16"),
        *_net("lenet", "inference training", [1, 16, 64, 256, 1024, 4096, 65536]),
        *_net("lenet_kernelbench", "inference", [4096]),
        *_net("lenet", "inference training", [16, 256, 4096]),
        *_net("lenet", "inference training", [1024, 65536], "tf32"),
        *_at("lenet", "conv1", "conv2d_relu_pool2d", "inference training", [4096]),
        *_at("resnet50", "layer3.1.conv2", "conv2d_relu", "inference training", [256], "tf32"),
        *_at("resnet50", "layer3.1.conv2", "conv2d_relu", "inference", [256], "fp32"),
        *_at("resnet50", "layer3.1.conv2", "conv2d_relu", "inference", [1, 32], "fp16"),
        *_at("resnet50", "layer1.0.conv1", "conv2d_relu", "inference training", [256], "fp16"),
        *_at("lenet", "pool1", "max_pool2d", "inference training", [4096]),
        *_at("kernelbench", "L1-42", "max_pool2d", "inference", [32]),
        *_at("kernelbench", "L1-82", "conv2d", "inference", [16]),
        *_at("kernelbench", "L2-1.conv-relu", "conv2d_relu", "inference", [128]),
        *_net("vgg_like", "inference training", [256], "fp16"),
        *_net("resnet_like", "inference training", [256], "fp16"),
        *_at("tiny", "conv", "conv2d", "inference training", [1]),
        *sweep(64, "fp16"),
    ]


def everything() -> Iterator[Case]:
    """Every layer of every network in every pass, batch and precision, after the headline."""
    yield from headline()
    for precision in ("fp16", "fp32", "tf32", "bf16"):
        for network in ("lenet", "vgg_like", "resnet_like"):
            yield from _net(network, "inference training", BATCHES, precision)
        for name, layers in networks().items():
            for found in layers:
                yield from _of_layer(name, found, precision)


def _of_layer(network: str, found: Layer, precision: str) -> Iterator[Case]:
    batches = (found.batch,) if found.batch else BATCHES
    for op in ops_of(found):
        works = "inference fprop dgrad wgrad training" if op == "conv2d" else "inference training"
        if found.from_image:
            works = works.replace("dgrad ", "")
        yield from _at(network, found.name, op, works, batches, precision)


def cases(name: str, patterns: Iterable[str] = ()) -> list[Case]:
    """The cases of a set, or those of them whose name fits one of the patterns; UserError when none does."""
    sets = {"smoke": smoke, "goals": goals, "headline": headline, "cpu": cpu, "all": everything}
    if name not in sets:
        raise UserError(f"set {name!r} is unknown; choose from {', '.join(SETS)}")
    found = list(dict.fromkeys(sets[name]()))
    wanted = list(patterns)
    if not wanted:
        return found
    chosen = [case for case in found if any(fnmatch(case.name, pattern) for pattern in wanted)]
    if not chosen:
        raise UserError(f"no case of set {name!r} fits {' '.join(wanted)}; `python -m bench run --list` shows them")
    return chosen


def everything_named(name: str) -> Case:
    """The case of that name in any set; KeyError if there is none."""
    for made in (smoke, cpu, everything):
        for case in made():
            if case.name == name:
                return case
    raise KeyError(f"no case is named {name!r}")
