"""What the CPU path and the kernels on a card were asked for, beside what the rows say."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from math import prod
from typing import Any

from bench.cases.sets import DENSE
from bench.cases.sets import goals as asked
from bench.report.data import NAMES, OURS, TORCH, Device
from bench.rows import Row

ANY = "better layout"


@dataclass(frozen=True)
class Goal:
    """At least `wanted` times as fast as `base` in every case that fits; a case starting with "-" is left out.

    layout: of torch's times, and of ours unless we have a form without one; ANY compares each one's better layout.
    mean: the geometric mean has to be `wanted`, and each case `least`. of_limit: `wanted` is the share of what the
    machine can do at best; memory is the limit of these cases.
    """

    what: str
    cases: tuple[str, ...]
    wanted: float
    base: str = TORCH
    layout: str = "nchw"
    mean: bool = False
    least: float = 0.0
    of_limit: bool = False


LENET = "lenet/inference/n{}/fp32"
DEPTHWISE = tuple(
    f"mobilenetv2/features.{name}/conv2d/inference/*"
    for name in (
        "1.conv.0.0", "2.conv.1.0", "3.conv.1.0", "4.conv.1.0", "5.conv.1.0", "7.conv.1.0", "8.conv.1.0",
        "12.conv.1.0", "14.conv.1.0", "15.conv.1.0",
    )
)  # fmt: skip
PAIRS = ("lenet/pool*", "pools/*", "vgg16/*")
STEMS = tuple(f"{name}/conv2d_relu/inference/*" for name in ("resnet50/conv1", "vgg16/features.0"))
WIDE = ("resnet50/layer*/inference/*", "vgg16/features.2/conv2d_relu_pool2d/*", "sweep/*/conv2d_relu/*")
NARROW = tuple(f"-sweep/channels-{c}/*" for c in (1, 2, 4, 8, 16))
GOALS = (
    Goal("LeNet inference, one image", (LENET.format(1),), 11),
    Goal("LeNet inference, 16 images and more", ("lenet/inference/*/fp32", "-" + LENET.format(1)), 5),
    Goal("LeNet inference over ONNX Runtime", ("lenet/inference/*/fp32",), 1.4, "onnxruntime"),
    Goal("LeNet training step, one image", ("lenet/training/n1/fp32",), 1.6),
    Goal("LeNet training step, 64 images and more", tuple(f"lenet/training/n{n}/fp32" for n in (64, 256, 1024)), 3),
    Goal("2x2 max pool", tuple(f"{p}/max_pool2d/inference/*" for p in PAIRS), 5),
    Goal("2x2 max pool, forward and backward", tuple(f"{p}/max_pool2d/training/*" for p in PAIRS), 3),
    Goal("depthwise 3x3", DEPTHWISE, 1.4),
    Goal("3-channel stems with ReLU", (*STEMS, "mobilenetv2/features.0.0/conv2d_relu/inference/*"), 1.5),
    Goal("VGG block 64 to 64, 224x224, with pool", ("vgg16/features.2/conv2d_relu_pool2d/inference/*",), 1.25),
    Goal("convolutions of 32 channels and more", (*WIDE, *NARROW), 0.97),
    Goal("every case", ("*",), 0.97, TORCH, ANY),
)


def _card(what: str, cases: tuple[str, ...], wanted: float, base: str = TORCH, **more: Any) -> Goal:
    return Goal(what, cases, wanted, base, ANY, **more)


def _dense(end: str) -> tuple[str, ...]:
    return tuple(f"{network}/{name}/{end}" for network, names in DENSE.items() for name in names)


BLOCKS = ("vgg16/features.2/conv2d_relu_pool2d/training/*", "stems/*", "lenet/conv?/conv2d_relu_pool2d/training/*")
STREAMED = tuple(f"{name}/conv2d/{{}}/*" for name in ("mobilenetv2/features.[25].conv.1.0", "depthwise/*"))
THREE = tuple(f"mobilenetv2/features.5.conv.1.0/conv2d/{work}/*" for work in ("inference", "dgrad", "wgrad"))
POOLED = tuple(f"{name}/training/*" for name in ("resnet50/maxpool/*", "pools/*", "kernelbench/L2-46.pool/*"))
CARD = (
    _card("3x3 of 128 channels and more", _dense("conv2d/inference/*"), 1.0, mean=True, least=0.85),
    _card("the same with ReLU", _dense("conv2d_relu/inference/*"), 1.15, mean=True),
    _card(
        "their input gradients of stride 2", tuple(f"resnet50/layer{n}.0.conv2/conv2d/dgrad/*" for n in (2, 3, 4)), 1.2
    ),
    _card("their weight gradients", _dense("conv2d/wgrad/*"), 0.95, mean=True),
    _card("convolution, ReLU and 2x2 pool, training", BLOCKS, 1.8),
    _card("the same over max-autotune", BLOCKS, 1.3, "compile_max"),
    *(
        _card(f"depthwise, {name}", tuple(each.format(work) for each in STREAMED), 2)
        for name, work in (("forward", "inference"), ("input gradient", "dgrad"), ("weight gradient", "wgrad"))
    ),
    _card("depthwise 3x3, of copy bandwidth", THREE, 0.8, of_limit=True),
    _card("pools, forward and backward", POOLED, 2),
    _card("the same, of copy bandwidth", POOLED, 0.88, of_limit=True),
    _card("every case", ("*",), 0.97),
)


def fits(case: str, patterns: tuple[str, ...]) -> bool:
    """Whether the case is one of the patterns and none that is left out."""
    wanted = any(fnmatch(case, p) for p in patterns if not p.startswith("-"))
    return wanted and not any(fnmatch(case, p[1:]) for p in patterns if p.startswith("-"))


def fastest(found: list[Row], providers: tuple[str, ...], layout: str) -> Row | None:
    """The fastest row of these providers in that layout; the fused network has no layout of its own."""
    usable = [
        row for row in found
        if row["provider"] in providers and "value" in row
        and (layout == ANY or row["layout"] == layout or row["provider"] == "ours_fused")
    ]  # fmt: skip
    return min(usable, key=lambda row: float(row["value"]), default=None)


def measured(device: Device, goal: Goal) -> list[tuple[str, float, str]]:
    """(case, how many times as fast or what share of the limit, that share in words) of every case that fits and was
    compared, slowest first; by the metric of the device's kind."""
    by_case: dict[str, list[Row]] = {}
    for row in device.of(device.metric):
        if fits(row["case"], goal.cases):
            by_case.setdefault(row["case"], []).append(row)
    lines = []
    for case, found in by_case.items():
        ours = fastest(found, (OURS, "ours_fused"), goal.layout)
        theirs = fastest(found, (goal.base,), ANY if goal.base != TORCH else goal.layout)
        known = ours and theirs and ("share" in ours if goal.of_limit else "ratio" in ours and "ratio" in theirs)
        if known and ours and theirs:
            share = f"{100 * ours['share']:.0f} % of {ours['bound']}" if "share" in ours else ""
            ratio = float(ours["share"]) if goal.of_limit else float(ours["ratio"]) / float(theirs["ratio"])
            lines.append((case, ratio, share))
    return sorted(lines, key=lambda line: line[1])


def speedrun(device: Device) -> list[str]:
    """The lines of seconds to 99 %."""
    found = {row["provider"]: row for row in device.others() if row["case"] == "speedrun.mnist"}
    if not {OURS, TORCH} <= set(found):
        return []
    ours, theirs = found[OURS], found[TORCH]
    ratio, seeds = theirs["value"] / ours["value"], f"99 % with {ours['reached']} of {ours['seeds']} seeds"
    seconds = f"{ours['value']:.1f} s beside {theirs['value']:.1f} s; {seeds}"
    return [f"| seconds to 99 % of MNIST, {ours['threads']} threads | 3x, 15 s | {ratio:.2f}x | {seconds} |"]


def table(device: Device) -> str:
    """Markdown: each goal, the least and the largest ratio, and the cases below it with their share of the limit. A
    card's goals say how many of their cases have no time."""
    lines = ["| goal | wanted | measured | below it, and its share of the limit |", "|---|---|---|---|"]
    card = device.about["kind"] == "cuda"
    names = [case.name for case in asked()] if card else []
    for goal in CARD if card else GOALS:
        found = measured(device, goal)
        missing = sum(fits(name, goal.cases) for name in names) - len(found)
        if found or missing > 0:
            lines.append(_line(goal, found, missing))
    return "\n".join([*lines, *([] if card else speedrun(device))])


def _line(goal: Goal, found: list[tuple[str, float, str]], missing: int) -> str:
    def number(value: float) -> str:
        return f"{100 * value:.0f} %" if goal.of_limit else f"{value:.2f}x"

    base = "" if goal.of_limit else f" {NAMES[goal.base]}" + (", better layout" if goal.layout == ANY else "")
    wanted = f"{100 * goal.wanted:.0f} %" if goal.of_limit else f"{goal.wanted}x"
    wanted += base + (" in the geometric mean" if goal.mean else "") + (f", each {goal.least}x" if goal.least else "")
    parts = [number(ratio) for _, ratio, _ in found[:1]]
    if len(found) > 1:
        parts = [f"{number(found[0][1])} to {number(found[-1][1])} ({len(found)} cases)"]
    if goal.mean and found:
        mean = prod(ratio for _, ratio, _ in found) ** (1 / len(found))
        parts.insert(0, f"{number(mean)}{'' if mean >= goal.wanted else ' (below)'}")
    parts += [f"{missing} without a time"] if missing > 0 else []
    below = goal.least if goal.mean else goal.wanted
    missed = [f"{case} {number(ratio)} ({share})" for case, ratio, share in found if ratio < below]
    return f"| {goal.what} | {wanted} | {'; '.join(parts)} | {'; '.join(missed) or '–'} |"
