"""Which classes a model takes for which: the confusion matrix, its worst pairs and its picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


def confusion_matrix(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes) in int64: row = true class, column = predicted class."""
    return torch.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def most_confused(matrix: Tensor, count: int = 3) -> list[tuple[int, int, int]]:
    """The most frequent mistakes as (true class, predicted class, how often), the most frequent first."""
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    top = torch.argsort(wrong, descending=True, stable=True)[:count].tolist()
    return [(i // len(matrix), i % len(matrix), int(wrong[i])) for i in top if wrong[i] > 0]


def draw_confusion(matrix: Tensor, classes: Sequence[str], path: Path, title: str) -> None:
    """Write a PNG: the share of each true class (colour) with its count (number)."""
    from matplotlib.figure import Figure

    size = max(5.0, 0.55 * len(classes) + 1.5)
    figure = Figure(figsize=(size, size), layout="constrained")
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
    figure.savefig(path, dpi=150)
