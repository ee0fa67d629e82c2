"""Filters with their numbers, and what they do to a picture."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

from torch import Tensor

from cnn.pictures.style import GRAY, canvas, save, show_map
from cnn.see.walk import number

COLUMNS = 8


def draw_filters(weight: Tensor, path: str | Path) -> Path:
    """Filters (K, R, S) in a row, titled "Filter i", every value written in: white where it is negative."""
    count, rows, columns = weight.shape
    wide = min(count, COLUMNS)
    tall = ceil(count / wide)
    side = max(1.6, 0.42 * max(rows, columns))
    figure = canvas(wide * side, tall * (side + 0.35))
    axes = figure.subplots(tall, wide, squeeze=False).ravel()
    bound = float(weight.abs().max()) or 1.0
    for i, place in enumerate(axes):
        if i < count:
            annotate(place, weight[i], bound)
            place.set_title(f"Filter {i + 1}")
        else:
            place.set_axis_off()
    return save(figure, path)


def annotate(axes: Any, values: Tensor, bound: float) -> None:
    """A filter's values on gray from -bound (black) to bound (white)."""
    axes.imshow(values.numpy(), cmap="gray", vmin=-bound, vmax=bound)
    axes.set_xticks([])
    axes.set_yticks([])
    for y, row in enumerate(values.tolist()):
        for x, v in enumerate(row):
            text = number(round(v, 2))
            axes.text(x, y, text, ha="center", va="center", color="white" if v < 0 else "black", fontsize=8)


def draw_filtered(image: Tensor, filtered: Tensor, matrix: Tensor, name: str, path: str | Path) -> Path:
    """Before, the filter, after. image, filtered: (C, H, W), C = 1 or 3; the filter (R, S).

    A filter without negative values gives a picture; one with them gives values on both sides of 0, which a picture
    cannot hold, so that they are drawn in blue and vermilion around 0, and never cut off.
    """
    height = 5.2 * image.shape[1] / image.shape[2]
    figure = canvas(13, height + 0.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=(5.2, 2, 5.2))
    show_image(left, image)
    left.set_title("before")
    annotate(middle, matrix, float(matrix.abs().max()) or 1.0)
    middle.set_title(name)
    low, high = float(filtered.min()), float(filtered.max())
    if low < 0:
        values = filtered.mean(0)
        shown = show_map(right, values, float(values.abs().max()), signed=True)
        figure.colorbar(shown, ax=right, shrink=0.8)
    else:
        show_image(right, filtered)
    right.set_title("after")
    right.set_xlabel(f"values from {low:.2f} to {high:.2f}", color=GRAY)
    return save(figure, path, dpi=100)


def show_image(axes: Any, image: Tensor) -> None:
    """A picture (1 or 3, H, W); values beyond 0..1 are cut, as a screen does."""
    axes.set_xticks([])
    axes.set_yticks([])
    if image.shape[0] == 3:
        axes.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
    else:
        axes.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
