"""A window on its way over a small picture: one panel a step, or a moving picture."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor

from cnn.errors import UserError
from cnn.pictures.style import BLUE, GREEN, ORANGE, PURPLE, SIGNED, canvas, outline, save
from cnn.see.arithmetic import windows
from cnn.see.walk import Move, number

# Dark and light as in an image, yet every number on it readable in black.
PALE = LinearSegmentedColormap.from_list("pale", ["#A6A6A6", "#FFFFFF"])
MOST_STEPS = 64
COLUMNS = 5


def draw_walk(image: Tensor, moves: Sequence[Move], path: str | Path, title: str, kernel: Tensor | None = None) -> Path:
    """Every step: the input (H, W) with its window above the output, filled up to that step.

    kernel: the weights (R, S) of a convolution, written small below the values that they multiply.

    A .gif shows the steps one after the other; .png and .svg side by side. UserError beyond 64 steps.
    """
    if len(moves) > MOST_STEPS:
        raise UserError(f"{len(moves)} steps are too many for a picture (at most {MOST_STEPS}); use a smaller input")
    if Path(path).suffix.lower() == ".gif":
        return _animated(image, moves, Path(path), title, kernel)
    wide = min(len(moves), COLUMNS)
    tall = ceil(len(moves) / wide)
    figure = canvas(2.6 * wide, 3.9 * tall + 0.4)
    figure.suptitle(title)
    panels = figure.subfigures(tall, wide, squeeze=False).ravel()
    for i, panel in enumerate(panels[: len(moves)]):
        _frame(panel, image, moves, i, kernel)
    return save(figure, path, dpi=90)


def draw_windows(size: int, kernel: int, stride: int, padding: int, dilation: int, path: str | Path) -> Path:
    """Along one side: the pixels, the padding, and one row for each position of the window."""
    starts = windows(size, kernel, stride, padding, dilation)
    figure = canvas(max(6.0, 0.42 * (size + 2 * padding) + 2), 0.32 * len(starts) + 1.6)
    axes = figure.subplots()
    for x in range(-padding, size + padding):
        outside = x < 0 or x >= size
        axes.add_patch(_box(x, -1, "#eeeeee" if outside else "#555555", "#999999"))
        text, ink = ("0", "#555555") if outside else (str(x), "white")
        axes.text(x + 0.5, -0.5, text, ha="center", va="center", fontsize=8, color=ink)
    for row, start in enumerate(starts):
        colour = (BLUE, ORANGE, GREEN, PURPLE)[row % 4]
        for tap in range(kernel):
            axes.add_patch(_box(start + tap * dilation, row + 0.15, colour, "white", 0.7))
        axes.text(size + padding + 0.3, row + 0.5, f"output {row}", va="center", fontsize=8)
    axes.set(xlim=(-padding - 0.2, size + padding + 2.5), ylim=(len(starts) + 0.2, -1.2), aspect="equal")
    axes.set_axis_off()
    span = dilation * (kernel - 1) + 1
    axes.set_title(
        f"O = floor(({size} + 2·{padding} − {span}) / {stride}) + 1 = {len(starts)}"
        f"   (kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation})",
        fontsize=10,
    )
    return save(figure, path)


def _box(x: float, y: float, face: str, edge: str, height: float = 1.0) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, height, facecolor=face, edgecolor=edge)


def _frame(panel: Any, image: Tensor, moves: Sequence[Move], i: int, kernel: Tensor | None) -> None:
    """Step i: the input with the window, below it the output so far."""
    above, below = panel.subplots(2, 1, height_ratios=(1.25, 1))
    move, (height, width) = moves[i], image.shape
    tall, wide = len(move.window), len(move.window[0])
    _numbers(above, image.tolist(), bound=float(image.abs().max()), gray=bool(image.min() >= 0))
    outline(above, *move.first, tall, wide)
    (top, left), (low, right) = moves[0].first, moves[-1].first
    rows, columns = range(min(0, top), max(height, low + tall)), range(min(0, left), max(width, right + wide))
    for y in rows:
        for x in columns:
            if not (0 <= y < height and 0 <= x < width):
                above.text(x, y, "0", ha="center", va="center", fontsize=8, color="#999999")
    if kernel is not None:
        _weights(above, move, kernel)
    above.set_xlim(columns.start - 0.7, columns.stop - 0.3)
    above.set_ylim(rows.stop - 0.3, rows.start - 0.7)
    above.set_title(f"step {i + 1}: {number(move.result)}", fontsize=10)
    output: list[list[float | None]] = [[None] * (moves[-1].cell[1] + 1) for _ in range(moves[-1].cell[0] + 1)]
    for done in moves[: i + 1]:
        output[done.cell[0]][done.cell[1]] = done.result
    _numbers(below, output, bound=max(abs(m.result) for m in moves), gray=False)
    outline(below, *move.cell, 1, 1)


def _weights(axes: Any, move: Move, kernel: Tensor) -> None:
    """The kernel's weights below the values under the window."""
    for r, row in enumerate(kernel.tolist()):
        for s, weight in enumerate(row):
            place = (move.first[1] + s, move.first[0] + r + 0.3)
            axes.text(*place, f"×{number(weight)}", ha="center", va="center", fontsize=6, color="#A03000")


def _numbers(axes: Any, rows: Sequence[Sequence[float | None]], bound: float, gray: bool) -> None:
    """Squares with their numbers; None is an empty square."""
    filled = [[float("nan") if v is None else v for v in row] for row in rows]
    bound = bound or 1.0
    axes.imshow(filled, cmap=PALE if gray else SIGNED, vmin=0 if gray else -bound, vmax=bound)
    axes.set_xticks([x - 0.5 for x in range(len(rows[0]) + 1)], [])
    axes.set_yticks([y - 0.5 for y in range(len(rows) + 1)], [])
    axes.tick_params(length=0)
    axes.grid(color="#aaaaaa", linewidth=0.6)
    for y, row in enumerate(rows):
        for x, v in enumerate(row):
            if v is not None:
                dark = not gray and abs(v) > 0.75 * bound
                axes.text(x, y, number(v), ha="center", va="center", fontsize=8, color="white" if dark else "black")


def _animated(image: Tensor, moves: Sequence[Move], path: Path, title: str, kernel: Tensor | None) -> Path:
    """A GIF, one step after the other, for ever."""
    from io import BytesIO

    from PIL import Image

    frames = []
    for i in range(len(moves)):
        figure = canvas(3.4, 5.2)
        figure.suptitle(title.replace(", stride", "\nstride"), fontsize=10)
        _frame(figure, image, moves, i, kernel)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=90)
        frames.append(Image.open(buffer).convert("P", palette=Image.Palette.ADAPTIVE))
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=700, loop=0)
    return path
