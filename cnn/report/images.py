"""Maps as tiny PNG pictures, one pixel a cell, and the colours they are painted with."""

from __future__ import annotations

import base64
import io
from math import ceil
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

# Blue below zero, white at zero, vermilion above: told apart by the colour-blind, and in print by the sign of a number.
LOW, MIDDLE, HIGH = (0, 90, 181), (255, 255, 255), (213, 70, 0)
LEVELS = 63  # odd: zero is exactly white


def shades() -> Any:
    """The diverging palette, uint8 (LEVELS, 3)."""
    t = np.linspace(-1, 1, LEVELS)[:, None]
    ends = np.where(t < 0, np.array(LOW), np.array(HIGH))
    return np.rint(np.array(MIDDLE) * (1 - abs(t)) + ends * abs(t)).astype(np.uint8)


def shade(value: float, bound: float) -> tuple[int, int, int]:
    """A number's colour between -bound and bound."""
    share = min(1.0, abs(value) / (bound or 1))
    end = LOW if value < 0 else HIGH
    red, green, blue = (round(m * (1 - share) + e * share) for m, e in zip(MIDDLE, end, strict=True))
    return red, green, blue


def ink(rgb: tuple[int, int, int]) -> str:
    """Black or white, whichever is readable on a colour."""
    return "#000" if 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] > 140 else "#fff"


def png(values: Tensor, bound: float, signed: bool) -> str:
    """A (H, W) map as a data URI: gray from 0 black to `bound` white, or, signed, diverging over -bound..bound."""
    array = values.detach().cpu().float().numpy() / (bound or 1)
    if signed:
        picture = Image.fromarray(np.rint((array.clip(-1, 1) + 1) * (LEVELS - 1) / 2).astype(np.uint8), "P")
        picture.putpalette(shades().tobytes())
    else:
        picture = Image.fromarray(np.rint(array.clip(0, 1) * 255).astype(np.uint8), "L")
    return uri(picture)


def colour_png(values: Tensor) -> str:
    """An image (3, H, W) in 0..1 as a data URI."""
    array = (values.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return uri(Image.fromarray(array, "RGB"))


def thumbnail(photo: Tensor, side: int = 260) -> str:
    """A photo (1 or 3, H, W) in 0..1, made smaller, as a JPEG data URI."""
    array = (photo.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    picture.thumbnail((side, side))
    return uri(picture, "JPEG")


def uri(picture: Any, kind: str = "PNG") -> str:
    """A Pillow image as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def overlay(image: Tensor, heat: Tensor) -> str:
    """A heat map (H, W) in 0..1 over an image (C, H, W): gray turns vermilion where the heat is."""
    gray = image.detach().cpu().float().mean(0).clamp(0, 1).numpy()[..., None] * 200
    strength = heat.detach().cpu().float().clamp(0, 1).numpy()[..., None] ** 0.8 * 0.9
    mixed = gray * (1 - strength) + np.array((255, 120, 20)) * strength
    return uri(Image.fromarray(mixed.round().astype(np.uint8), "RGB"))


def folded(count: int) -> tuple[int, int]:
    """Rows and columns in which a vector of `count` values is drawn: at most 40 in a row, rows full if possible."""
    if count <= 16:
        return 1, count
    columns = next((c for c in range(40, 9, -1) if count % c == 0), 40)
    return ceil(count / columns), columns


def as_maps(values: Tensor) -> Tensor:
    """A step's output without the batch as maps (C, H, W); a vector becomes one folded map, filled up with zeros."""
    if values.dim() == 3:
        return values
    flat = values.reshape(-1)
    rows, columns = folded(flat.numel())
    padded = flat.new_zeros(rows * columns)
    padded[: flat.numel()] = flat
    return padded.reshape(1, rows, columns)
