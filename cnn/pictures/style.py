"""The look that all pictures share: colours, frames, and saving to PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from cnn.errors import UserError

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, PURPLE, GRAY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
YELLOW = "#FFD500"
# Blue below zero, white at zero, vermilion above.
SIGNED = LinearSegmentedColormap.from_list("signed", ["#005AB5", "#FFFFFF", "#D54600"])
SUFFIXES = (".png", ".svg")

# Text stays text in an SVG, and the file is the same on every run.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "cnn", "font.size": 10})


def canvas(width: float, height: float) -> Figure:
    """An empty figure of that many inches, without a display."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))


def save(figure: Figure, path: str | Path, dpi: int = 130) -> Path:
    """Write PNG or SVG by the name's ending, making the folder; UserError for another ending."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a picture ends in {' or '.join(SUFFIXES)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
    figure.savefig(path, dpi=dpi, metadata=metadata)
    return path


def show_map(axes: Any, values: Tensor, bound: float, signed: bool) -> Any:
    """A (H, W) map: gray from 0 to bound, or, signed, blue - white - vermilion from -bound to bound."""
    axes.set_xticks([])
    axes.set_yticks([])
    low = -bound if signed else 0.0
    return axes.imshow(
        values.detach().cpu().float().numpy(), cmap=SIGNED if signed else "gray", vmin=low, vmax=bound or 1.0
    )


def plain(axes: Any) -> None:
    """Only the left and lower line of a plot's frame."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def outline(axes: Any, top: float, left: float, height: float, width: float, colour: str = YELLOW) -> None:
    """A frame around cells of a picture drawn with imshow."""
    from matplotlib.patches import Rectangle

    corner, size = (left - 0.5, top - 0.5), (width, height)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=4, clip_on=False))
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=2, clip_on=False))
