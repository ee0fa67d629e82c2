"""The picture of one image on its way through a CNN: every map of every step, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnn.pictures.style import BLUE, GRAY, canvas, save, show_map
from cnn.see.steps import KIND_NAMES
from cnn.see.trace import trace

WIDTH = 13.0  # inches


def draw_journey(model: nn.Module, image: Tensor, classes: Sequence[str], path: Path, label: str | None = None) -> None:
    """Write a PNG of the image (1, 1, H, W), a row of maps for every step until the maps end, and the answer.

    The maps of a row share one scale: centred on 0 in red and blue where values may be negative, else from 0 in gray.
    label: the true class, named in the title.
    """
    seen = trace(model, image)
    rows = [(step.name.split(".")[0], step.op.kind, step.output[0]) for step in seen.steps if step.output.dim() == 4]
    heights = [3.0, *(1.5 if len(maps) <= 8 else 0.85 for _, _, maps in rows)]
    figure = canvas(WIDTH, sum(heights) + 0.3)
    panels: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    assert seen.output is not None
    draw_answer(panels[0], image, torch.softmax(seen.output[0].float(), 0), classes, label)
    for panel, (layer, kind, maps) in zip(panels[1:], rows, strict=True):
        draw_row(panel, layer, kind, maps)
    save(figure, path, dpi=120)


def draw_answer(panel: Any, image: Tensor, shares: Tensor, classes: Sequence[str], label: str | None) -> None:
    """The image as the model gets it, beside the probability of each class."""
    left, right = panel.subplots(1, 2, width_ratios=(1, 2.6))
    left.imshow(image[0, 0].numpy(), cmap="gray", vmin=0, vmax=1)
    left.set_title(f"input {image.shape[-2]}x{image.shape[-1]}" + (f": a {label}" if label else ""))
    left.set_axis_off()
    best = int(shares.argmax())
    bars = right.bar(
        range(len(classes)), 100 * shares.numpy(), color=[BLUE if i == best else GRAY for i in range(len(classes))]
    )
    right.bar_label(bars, [f"{100 * share:.1f}" for share in shares.tolist()], fontsize=9)
    right.set_xticks(range(len(classes)), classes)
    right.set(ylim=(0, 112), ylabel="probability in %", title=f"answer: {classes[best]}")
    right.spines[["top", "right"]].set_visible(False)


def draw_row(panel: Any, layer: str, kind: str, maps: Tensor) -> None:
    """The maps (C, H, W) of one step side by side behind their description."""
    count, height, width = maps.shape
    shown = min(count, 16)
    text, *axes = panel.subplots(1, shown + 1, width_ratios=(2.2, *[10 / shown] * shown))
    low, high = maps.min().item(), maps.max().item()
    signed = low < 0
    reach = max(abs(low), abs(high)) or 1.0
    what = f"{layer}  {KIND_NAMES[kind]}"
    scale = f"blue {-reach:.2f}, white 0, red {reach:.2f}" if signed else f"black 0, white {reach:.2f}"
    many = f"{count} maps {height}x{width}" + (f", first {shown}" if shown < count else "")
    text.set_axis_off()
    text.text(0, 0.5, f"{what}\n{many}\n{scale}", va="center", fontsize=9, linespacing=1.5)
    for number, (place, values) in enumerate(zip(axes, maps, strict=False), start=1):
        show_map(place, values, reach, signed)
        place.set_title(f"{number}", fontsize=8, pad=2)
