"""The picture of a training run: loss and error against the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn.pictures.style import BLUE, ORANGE, canvas, plain, save


def draw_curve(history: Sequence[dict[str, Any]], path: Path, title: str) -> None:
    """Write a PNG of the epochs in `history` (dicts of EpochResult): loss on the left, error rate on the right."""
    epochs = [entry["epoch"] for entry in history]
    figure = canvas(9, 3.6)
    figure.suptitle(title)
    left, right = figure.subplots(1, 2)
    left.set(ylabel="loss (mean cross-entropy)", yscale="log")
    right.set(ylabel="error: wrong answers in %")
    right.set_yscale("symlog", linthresh=0.1)
    # Training is judged while the model changes, on augmented images: it may well look worse than the test.
    for name, label, colour, style in (("train", "train, during the epoch", BLUE, "--"), ("test", "test", ORANGE, "-")):
        loss = [entry["loss" if name == "train" else "test_loss"] for entry in history]
        wrong = [100 - 100 * entry[f"{name}_correct"] / entry[f"{name}_total"] for entry in history]
        left.plot(epochs, loss, style, color=colour, label=label)
        right.plot(epochs, wrong, style, color=colour, label=label)
    last = history[-1]
    share = f"{last['test_correct']:,}/{last['test_total']:,} = {100 * last['test_correct'] / last['test_total']:.2f} %"
    right.set_title(f"test: {share} right", fontsize=10)
    for axes in (left, right):
        axes.set(xlabel="epoch", xlim=(min(epochs) - 0.5, max(epochs) + 0.5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        plain(axes)
        axes.legend(frameon=False)
    save(figure, path, dpi=150)
