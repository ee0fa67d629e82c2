"""What the CPU path was asked for, beside what the rows say."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch

from bench.report.data import NAMES, OURS, TORCH, Device
from bench.rows import Row

ANY = "better layout"


@dataclass(frozen=True)
class Goal:
    """At least `wanted` times as fast as `base` in every case that fits; a case starting with "-" is left out.

    layout: of torch's times, and of ours unless we have a form without one; ANY compares each one's better layout.
    """

    what: str
    cases: tuple[str, ...]
    wanted: float
    base: str = TORCH
    layout: str = "nchw"


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
    """(case, how many times as fast, share of the limit) of every case that fits, slowest first."""
    by_case: dict[str, list[Row]] = {}
    for row in device.of("wall"):
        if fits(row["case"], goal.cases):
            by_case.setdefault(row["case"], []).append(row)
    lines = []
    for case, found in by_case.items():
        ours = fastest(found, (OURS, "ours_fused"), goal.layout)
        theirs = fastest(found, (goal.base,), ANY if goal.base != TORCH else goal.layout)
        if ours and theirs:
            share = f"{100 * ours['share']:.0f} % of {ours['bound']}" if "share" in ours else ""
            lines.append((case, float(ours["ratio"]) / float(theirs["ratio"]), share))
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
    """Markdown: each goal, the least and the largest ratio, and the cases below it with their share of the limit."""
    lines = ["| goal | wanted | measured | below it, and its share of the limit |", "|---|---|---|---|"]
    for goal in GOALS:
        found = measured(device, goal)
        if not found:
            continue
        low, high = found[0][1], found[-1][1]
        span = f"{low:.2f}x" if len(found) == 1 else f"{low:.2f}x to {high:.2f}x ({len(found)} cases)"
        missed = [f"{case} {ratio:.2f}x ({share})" for case, ratio, share in found if ratio < goal.wanted]
        base = NAMES[goal.base] + (", better layout" if goal.layout == ANY else "")
        lines.append(f"| {goal.what} | {goal.wanted}x {base} | {span} | {'; '.join(missed) or '–'} |")
    return "\n".join([*lines, *speedrun(device)])
