"""Predicted times of the headline layers on a card that is not here, with the machine code's own instruction counts."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

NAME = "predict"
HELP = "without a card: predicted times of the headline layers, from machine code and a card's limits; never measured"
HEAD = ("layer", "pass", "plan", "GFLOP", "MB", "roofline us", "predicted us", "of roofline", "bound")
INTRO = """# Predicted times on {card}

**Predicted, not measured**: written by `python -m bench predict --arch {arch}` with triton {triton} without a card.
The model is kernels/common/roofline.py (expect +-20 %); instructions, registers and shared memory are those of the
compiled kernels. channels_last, float16; FLOPs count taps in the padding, which the batch kernels leave out. Packing
of weights is not in these times.

"""
# name: network, layer, batch
LAYERS = {
    "ResNet-50 3x3 64 56x56": ("resnet50", "layer1.0.conv2", 256),
    "ResNet-50 3x3 128 28x28": ("resnet50", "layer2.1.conv2", 256),
    "ResNet-50 3x3 256 14x14": ("resnet50", "layer3.1.conv2", 256),
    "ResNet-50 3x3 512 7x7": ("resnet50", "layer4.1.conv2", 256),
    "ResNet-50 3x3/2 256 28x28": ("resnet50", "layer3.0.conv2", 256),
    "ResNet-50 1x1 256-64 56x56": ("resnet50", "layer1.1.conv1", 256),
    "ResNet-50 1x1 1024-256 14x14": ("resnet50", "layer3.1.conv1", 256),
    "ResNet-50 3x3 256 14x14, batch 32": ("resnet50", "layer3.1.conv2", 32),
    "ResNet-50 7x7/2 RGB": ("resnet50", "conv1", 256),
    "VGG 3x3 64 224x224": ("vgg16", "features.2", 64),
    "VGG 3x3 256 56x56": ("vgg16", "features.12", 64),
    "VGG 3x3 512 28x28": ("vgg16", "features.19", 64),
    "VGG 3x3 512 14x14": ("vgg16", "features.24", 64),
    "MobileNetV2 depthwise 3x3 192 28x28": ("mobilenetv2", "features.5.conv.1.0", 256),
    "LeNet 5x5 1-6": ("lenet", "conv1", 4096),
    "LeNet 5x5 6-16": ("lenet", "conv2", 4096),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--arch", default="sm_90", help="sm_80 sm_86 sm_89 sm_90 sm_100 sm_120")
    parser.add_argument("--layers", nargs="*", default=[], metavar="TEXT", help="only layers whose name has this")
    parser.add_argument("--out", type=Path, default=None, metavar="FILE", help="also write the table as Markdown")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    import triton

    from bench.machine_code.compile import CARDS
    from cnn.errors import UserError
    from kernels.common.device import INTERPRET
    from kernels.common.roofline import LIMITS

    if INTERPRET:
        raise UserError("unset TRITON_INTERPRET, which replaces the compiler")
    if args.arch not in CARDS or args.arch.startswith("gfx"):
        raise UserError(f"--arch {args.arch} is unknown; choose from {', '.join(c for c in CARDS if c[0] == 's')}")
    names = [name for name in LAYERS if not args.layers or any(text in name for text in args.layers)]
    if not names:
        raise UserError(f"no layer's name has {' or '.join(args.layers)}; there are {', '.join(LAYERS)}")
    cells = [row for name in names for row in rows(name, args)]
    table = [list(HEAD), ["---"] * len(HEAD), *cells]
    body = "\n".join("| " + " | ".join(line) + " |" for line in table) + "\n"
    text = INTRO.format(card=LIMITS[args.arch].card, arch=args.arch, triton=triton.__version__) + body
    print(text, end="")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)
    return 0


def rows(name: str, args: argparse.Namespace) -> list[list[str]]:
    """A layer's lines, one a pass that is asked of it in training."""
    from bench.cases import layer
    from bench.tune import Target, passes_of

    network, found, batch = LAYERS[name]
    here = layer(network, found)
    return [cells(name, Target(here, batch, "fp16", which), args) for which in passes_of(here)]


def cells(name: str, target: Any, args: argparse.Namespace) -> list[str]:
    """One pass by the plan of the rule."""
    from bench.limits import work_of
    from bench.machine_code.compile import CARDS
    from bench.tune.drive import named
    from bench.tune.rank import card_for, coded, launches, main_launch
    from kernels.common.roofline import LIMITS, predict
    from kernels.conv2d.plans.plan import rule

    card, limits = CARDS[args.arch], LIMITS[args.arch]
    plan = rule(target.which, target.geometry, target.itemsize, card_for(target, card))
    flops, size = work_of(next(iter(target.cases().values())))
    found = launches(target, plan, card, channels_last=True)
    made = predict(found, flops, limits, [coded(launch, args.arch) for launch in found])
    numbers = [f"{flops / 1e9:.1f}", f"{size / 1e6:.0f}", f"{made.floor * 1e6:.0f}", f"{made.seconds * 1e6:.0f}"]
    how = named(plan) if plan.tile else main_launch(found).kernel.__name__.removesuffix("_kernel")
    return [name, target.which, how, *numbers, f"{made.share:.0%}", made.bound]
