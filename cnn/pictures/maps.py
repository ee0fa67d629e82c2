"""The maps of one step side by side, on one scale."""

from __future__ import annotations

from math import ceil
from pathlib import Path

from cnn.pictures.style import canvas, save, show_map
from cnn.see.steps import KIND_NAMES
from cnn.see.trace import Step

COLUMNS = 8


def draw_step(step: Step, path: str | Path, most: int = 64) -> Path:
    """The maps (1, C, H, W) of a step, titled "Output i", at most `most` of them."""
    maps = step.output[0]
    count, height, width = maps.shape
    shown = min(count, most)
    wide = min(shown, COLUMNS if max(height, width) <= 64 else 4)
    tall = ceil(shown / wide)
    side = 1.5 if max(height, width) <= 64 else 3.6
    figure = canvas(wide * side + 0.9, tall * (side * height / width + 0.3) + 0.4)
    axes = figure.subplots(tall, wide, squeeze=False)
    bound = float(maps.abs().max()) or 1.0
    signed = bool(maps.min() < 0)
    drawn = []
    for i, place in enumerate(axes.ravel()):
        if i < shown:
            drawn.append(show_map(place, maps[i], bound, signed))
            place.set_title(f"Output {i + 1}", fontsize=9)
        else:
            place.set_axis_off()
    rest = f", the first {shown}" if shown < count else ""
    figure.suptitle(f"{step.name}: {KIND_NAMES[step.op.kind]}, {count} maps of {height} x {width}{rest}", fontsize=11)
    figure.colorbar(drawn[0], ax=axes, shrink=0.9, pad=0.02)
    return save(figure, path)
