"""Plots of the comparisons: accuracy with its spread, accuracy against shift, curves of overfitting, variants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cnn.learn.training import EpochResult
from cnn.pictures.style import BLUE, GRAY, GREEN, ORANGE, canvas, plain, save, show_map
from cnn.see.comparison import SHIFTS, Group

NAMES = {"mlp": "MLP", "lenet": "LeNet", "gap": "global max pool"}
COLOURS = {"mlp": ORANGE, "lenet": BLUE, "gap": GREEN}
MARKS = {"mlp": "s", "lenet": "o", "gap": "^"}


def draw_models(groups: Sequence[Group], path: str | Path, data: str) -> Path:
    """Accuracy with its range over seeds beside parameters and multiply-adds, without augmentation."""
    figure = canvas(11, 3.4)
    axes = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    names = [NAMES[g.model] for g in groups]
    colours = [COLOURS[g.model] for g in groups]
    _ranges(axes[0], groups, names, colours)
    axes[0].set_title(
        f"right on {groups[0].total} test images of {data}\n(range over {groups[0].seeds} seeds)", fontsize=10
    )
    for place, title, values in (
        (axes[1], "parameters", [g.parameters for g in groups]),
        (axes[2], "multiply-adds for one image", [g.multiply_adds for g in groups]),
    ):
        bars = place.barh(names, values, color=colours)
        place.bar_label(bars, [f"{v:,}" for v in values], padding=3, fontsize=9)
        place.set_title(title, fontsize=10)
        place.set_xlim(0, 1.35 * max(values))
        place.set_xticks([])
        place.set_yticks([])
        place.invert_yaxis()
        place.spines[["top", "right", "bottom"]].set_visible(False)
    return save(figure, path)


def draw_shift(groups: Sequence[Group], path: str | Path) -> Path:
    """Accuracy against how far the digit is moved, sideways and up or down."""
    figure = canvas(9.5, 3.9)
    figure.suptitle(f"trained without augmentation, mean of {groups[0].seeds} seeds", fontsize=10)
    for axes, title, way in zip(
        figure.subplots(1, 2, sharey=True),
        ("moved left or right", "moved up or down"),
        ("sideways", "vertical"),
        strict=True,
    ):
        below = -10.0
        for g in groups:
            shares = [100 * s for s in getattr(g, way)]
            axes.plot(SHIFTS, shares, marker=MARKS[g.model], color=COLOURS[g.model], label=NAMES[g.model])
        for end in sorted(100 * getattr(g, way)[-1] for g in groups):
            # Lines that end close together keep their numbers apart.
            below = max(end, below + 5.5)
            axes.text(SHIFTS[-1] + 0.12, below, f"{end:.1f}", va="center", fontsize=9)
        axes.set(xlabel="pixels", ylim=(0, 103), xlim=(-0.1, SHIFTS[-1] + 0.6))
        axes.set_xticks(SHIFTS)
        axes.set_title(title, fontsize=10)
        plain(axes)
    figure.axes[0].set_ylabel("right in %")
    figure.axes[0].legend(frameon=False, loc="lower left")
    return save(figure, path)


def draw_pairs(groups: Sequence[Group], path: str | Path, labels: Sequence[str], title: str) -> Path:
    """Accuracies with their ranges over seeds, one line a group."""
    figure = canvas(7.5, 0.5 * len(groups) + 1.3)
    axes = figure.subplots()
    _ranges(axes, groups, labels, [COLOURS[g.model] for g in groups])
    axes.set_title(title, fontsize=10)
    return save(figure, path)


def _ranges(axes: Any, groups: Sequence[Group], labels: Sequence[str], colours: Sequence[str]) -> None:
    """Mean with lowest and highest, one line each. The axis does not begin at 0, so there are points, not bars."""
    for y, (g, colour) in enumerate(zip(groups, colours, strict=True)):
        spread = [[100 * (g.mean - g.lowest)], [100 * (g.highest - g.mean)]]
        axes.errorbar(100 * g.mean, y, xerr=spread, fmt=MARKS[g.model], color=colour, capsize=4, markersize=7)
        axes.annotate(
            f"{100 * g.mean:.2f}", (100 * g.mean, y), (0, 8), textcoords="offset points", ha="center", fontsize=9
        )
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(len(groups) - 0.4, -0.7)
    axes.set_xlabel("right in %")
    plain(axes)
    axes.grid(axis="y", visible=False)


def draw_overfitting(curves: dict[float, list[EpochResult]], path: str | Path) -> Path:
    """Loss of an MLP on training and test images, one colour a dropout."""
    figure = canvas(10, 3.8)
    left, right = figure.subplots(1, 2)
    for (dropout, epochs), colour in zip(curves.items(), (ORANGE, BLUE, GREEN), strict=False):
        x = [e.epoch for e in epochs]
        name = f"dropout {dropout:g}"
        left.plot(x, [e.loss for e in epochs], "--", color=colour, label=f"{name}, training")
        left.plot(x, [e.test_loss for e in epochs], color=colour, label=f"{name}, test")
        right.plot(x, [100 - 100 * e.train_correct / e.train_total for e in epochs], "--", color=colour)
        right.plot(x, [100 - 100 * e.test_correct / e.test_total for e in epochs], color=colour)
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    right.set(xlabel="epoch", ylabel="wrong in %")
    right.set_yscale("symlog", linthresh=1)
    for axes in (left, right):
        plain(axes)
        axes.xaxis.get_major_locator().set_params(integer=True)
    left.legend(frameon=False, fontsize=8)
    figure.suptitle("an MLP without augmentation: training dashed, test solid", fontsize=10)
    return save(figure, path)


def draw_variants(image: Tensor, variants: Tensor, path: str | Path) -> Path:
    """A digit (1, H, W) and its variants (N, 1, H, W)."""
    columns = 9
    rows = -(-(len(variants) + 1) // columns)
    figure = canvas(columns * 1.1, rows * 1.2 + 0.3)
    places = figure.subplots(rows, columns).ravel()
    for place, values in zip(places, [image, *variants], strict=False):
        show_map(place, values[0], 1.0, signed=False)
    for place in places[len(variants) + 1 :]:
        place.set_axis_off()
    places[0].set_title("the digit", fontsize=9)
    places[1].set_title("variants", fontsize=9)
    for spine in places[0].spines.values():
        spine.set(color=ORANGE, linewidth=2.5)
    figure.supxlabel("turned by up to 10 degrees, moved by up to 8 %, scaled by up to 10 %", fontsize=9, color=GRAY)
    return save(figure, path)
