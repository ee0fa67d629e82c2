"""Small random turns, shifts and scalings of training images, as a hand would vary them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def random_affine(
    count: int, generator: torch.Generator, degrees: float = 10, shift: float = 0.08, scale: float = 0.1
) -> Tensor:
    """Maps (count, 2, 3) for `warp`: turned by +-degrees, moved by +-shift of the side, scaled by 1 +- scale.

    Drawn on the generator's device, so that the same seed gives the same images on every device.
    """
    turn, size, right, down = torch.rand(4, count, generator=generator, device=generator.device) * 2 - 1
    angle, zoom = turn * math.radians(degrees), 1 + size * scale
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # The normalized side runs from -1 to 1: a shift by a share of the side counts twice.
    rows = torch.stack([cos, -sin, 2 * shift * right]), torch.stack([sin, cos, 2 * shift * down])
    return torch.stack(rows).permute(2, 0, 1)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Images (N, C, H, W) seen through maps (N, 2, 3), bilinear, black outside."""
    grid = F.affine_grid(maps.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
