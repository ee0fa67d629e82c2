"""The picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from cnn.pictures.style import canvas, save


def draw_confusion(matrix: Tensor, classes: Sequence[str], path: Path, title: str) -> Path:
    """Write a PNG: the share of each true class (colour) with its count (number)."""
    size = max(5.0, 0.55 * len(classes) + 1.5)
    figure = canvas(size, size)
    axes = figure.subplots()
    share = (matrix / matrix.sum(1, keepdim=True).clamp_min(1)).numpy()
    # cividis rises evenly in lightness for every colour vision; the square root lets single mistakes be seen.
    axes.imshow(share**0.5, cmap="cividis", vmin=0, vmax=1)
    for true, row in enumerate(matrix.tolist()):
        for predicted, count in enumerate(row):
            if count:
                colour = "black" if share[true, predicted] > 0.3 else "white"
                axes.text(predicted, true, f"{count}", ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    return save(figure, path, dpi=150)
