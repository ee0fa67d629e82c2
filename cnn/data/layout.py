"""An image of any size laid out as the models expect it: 28x28, light ink on black, as in MNIST."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnn.data.dataset import SIZE
from cnn.errors import UserError

LAYOUTS = ("digit", "whole")
BOX = 20  # MNIST's digits fill a box of 20x20 inside 28x28


@dataclass(frozen=True)
class LaidOut:
    """The image (1, 1, 28, 28) in 0..1, and what was done to it, in words for the person."""

    image: Tensor
    notes: tuple[str, ...]


def lay_out(gray: Tensor, layout: str = "digit") -> LaidOut:
    """A gray image (1, 1, H, W) in 0..1 as 28x28.

    "digit": dark ink on a light ground is inverted, shading removed, the ink cut out, scaled to a box of 20x20 and
    centred by mass. "whole": the whole image, scaled with its proportions kept. An image that is 28x28 already is
    only inverted where needed ("digit") or left as it is ("whole"). UserError for other names.
    """
    if layout not in LAYOUTS:
        raise UserError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    if layout == "whole":
        return LaidOut(scaled(gray, SIZE, ground_of(gray)), ())
    notes = []
    if on_light_ground(gray):
        gray = 1 - gray
        notes.append("inverted: dark ink on a light ground")
    if gray.shape[-2:] == (SIZE, SIZE):
        return LaidOut(gray, tuple(notes))
    ink = without_shading(gray)
    if ink is None:
        return LaidOut(scaled(gray, SIZE, ground_of(gray)), (*notes, "no ink found: the whole image is used"))
    notes.append("cut out the ink, scaled it to 20x20 and centred it")
    return LaidOut(centred(scaled(cut_out(ink), BOX, 0.0)), tuple(notes))


def ground_of(gray: Tensor) -> float:
    """The median of the outermost pixels."""
    edge = torch.cat([gray[..., 0, :], gray[..., -1, :], gray[..., :, 0], gray[..., :, -1]], dim=-1)
    return edge.median().item()


def on_light_ground(gray: Tensor) -> bool:
    """Whether the ground is lighter than the middle of the image's range."""
    return ground_of(gray) > (gray.min() + gray.max()).item() / 2


def resized(gray: Tensor, longest: int) -> Tensor:
    """Scaled, smoothly, so that the longer side has `longest` pixels."""
    height, width = gray.shape[-2:]
    ratio = longest / max(height, width)
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    if size == (height, width):
        return gray
    return F.interpolate(gray, size=size, mode="bilinear", antialias=True).clamp(0, 1)


def scaled(gray: Tensor, side: int, ground: float) -> Tensor:
    """Scaled so that the longer side is `side` pixels, then padded with `ground` to a square."""
    gray = resized(gray, side)
    down, right = side - gray.shape[-2], side - gray.shape[-1]
    return F.pad(gray, (right // 2, right - right // 2, down // 2, down - down // 2), value=ground)


def without_shading(gray: Tensor) -> Any:
    """Light ink on a dark, unevenly lit ground as an array (H, W) of ink from 0 to 1; None where there is none."""
    from scipy import ndimage

    values = resized(gray, min(256, max(gray.shape[-2:])))[0, 0].numpy()
    # An opening wider than any stroke removes the ink and keeps the slow change of light over the paper.
    window = max(3, max(values.shape) // 3)
    ground = ndimage.uniform_filter(ndimage.grey_opening(values, size=window), size=window)
    ink = ndimage.gaussian_filter((values - ground).clip(0), sigma=max(values.shape) / 400)
    if ink.max() < 0.1:
        return None
    ink = ink / ink.max()
    return np.where(ink > 0.25, ink, 0)


def cut_out(ink: Any) -> Tensor:
    """The strokes of an array (H, W), specks dropped, thin lines thickened, as (1, 1, h, w) without a margin."""
    from scipy import ndimage

    labels, _ = ndimage.label(ink > 0.4, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    # A stroke written apart (the bar of a 5) is kept; a speck far smaller than the digit is not.
    kept = np.isin(labels, np.flatnonzero(areas >= 0.1 * areas.max()))
    rows, columns = np.flatnonzero(kept.any(1)), np.flatnonzero(kept.any(0))
    # In a long bar of width w, pixels lie (w + 2) / 4 from the edge on average. MNIST's pen is a tenth of the height.
    stroke = 4 * float(ndimage.distance_transform_edt(kept)[kept].mean()) - 2
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    missing = round(0.1 * extent - stroke)
    ink = np.where(ndimage.binary_dilation(kept, iterations=2), ink, 0)
    if missing > 0:
        ink = ndimage.grey_dilation(ink, size=missing + 1)
    margin = 1 + max(missing, 0) // 2
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    cut = ink[top : rows[-1] + margin + 1, left : columns[-1] + margin + 1]
    return torch.from_numpy(np.ascontiguousarray(cut, dtype=np.float32))[None, None]


def centred(box: Tensor) -> Tensor:
    """A box (1, 1, 20, 20) in 28x28 so that its centre of mass is the centre; the darkest ink becomes 1."""
    box = box / box.max().clamp_min(1e-6)
    weight = box[0, 0] / box.sum()
    places = torch.arange(BOX, dtype=torch.float32)
    margin = SIZE - BOX
    top = round((SIZE - 1) / 2 - float((weight.sum(1) * places).sum()))
    left = round((SIZE - 1) / 2 - float((weight.sum(0) * places).sum()))
    top, left = min(max(top, 0), margin), min(max(left, 0), margin)
    return F.pad(box, (left, margin - left, top, margin - top))
