"""An image as numbers: every pixel's value on its gray, and each channel apart."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from cnn.errors import UserError
from cnn.pictures.style import canvas, save, show_map

# Above this the numbers are too small to read.
MOST = 40


def pixel_labels(image: Tensor) -> list[tuple[int, int, str, str]]:
    """(row, column, text, colour) of every pixel of (H, W): two digits, `0` where it is exactly 0.

    White on the dark pixels, those below max / 2.5, black on the others.
    """
    turn = float(image.max()) / 2.5
    return [
        (y, x, "0" if v == 0 else f"{v:.2f}", "white" if v < turn else "black")
        for y, row in enumerate(image.tolist())
        for x, v in enumerate(row)
    ]


def draw_pixels(image: Tensor, path: str | Path, title: str = "") -> Path:
    """A gray image (H, W) in 0..1 with every value written into its pixel; UserError above 40 pixels a side."""
    height, width = image.shape
    if max(height, width) > MOST:
        raise UserError(f"{height}x{width} pixels are too many to annotate (at most {MOST} a side); use --size 28")
    figure = canvas(width * 0.42, height * 0.42 + 0.4)
    axes = figure.subplots()
    show_map(axes, image, max(1.0, float(image.max())), signed=False)
    for y, x, text, colour in pixel_labels(image):
        axes.text(x, y, text, color=colour, ha="center", va="center", fontsize=7.5)
    axes.set_title(title or f"{height} x {width} pixels, each a number from 0 (black) to 1 (white)")
    return save(figure, path, dpi=100)


def draw_channels(image: Tensor, path: str | Path) -> Path:
    """An RGB image (3, H, W) in 0..1, then its channels apart, then its gray."""
    gray = to_gray(image)
    figure = canvas(15, 15 / 5 * image.shape[1] / image.shape[2] + 0.8)
    axes = figure.subplots(1, 5)
    axes[0].imshow(image.permute(1, 2, 0).numpy())
    axes[0].set_title(f"colour: 3 x {image.shape[1]} x {image.shape[2]}")
    for place, values, name in zip(axes[1:], (*image, gray), ("red", "green", "blue", "gray"), strict=True):
        show_map(place, values, 1.0, signed=False)
        place.set_title(f"{name}: {float(values.min()):.2f} to {float(values.max()):.2f}")
    for place in axes:
        place.set_axis_off()
    return save(figure, path)


def to_gray(image: Tensor) -> Tensor:
    """RGB (3, H, W) -> (H, W), weighted as the eye does (ITU-R 601), which is what Pillow's gray is, too."""
    return image[0] * 0.299 + image[1] * 0.587 + image[2] * 0.114
