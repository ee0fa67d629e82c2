"""Classic filters, and a convolution of a picture with one of them."""

from __future__ import annotations

import json

import torch
from torch import Tensor
from torch.nn.functional import pad

from cnn.errors import UserError
from kernels import conv2d

# Cross-correlation, as every deep-learning library means "convolution": the matrix is laid on the picture as printed.
FILTERS: dict[str, tuple[tuple[float, ...], ...]] = {
    "identity": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    "sobel-x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "sobel-y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "blur": ((1 / 16, 2 / 16, 1 / 16), (2 / 16, 4 / 16, 2 / 16), (1 / 16, 2 / 16, 1 / 16)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "darken": ((0, 0, 0), (0, 0.5, 0), (0, 0, 0)),
    "edge": ((-1, -1, -1), (-1, 8, -1), (-1, -1, -1)),
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
}


def named_filter(name: str) -> Tensor:
    """The 3x3 float32 matrix of a classic filter; UserError names the known ones."""
    if name not in FILTERS:
        raise UserError(f"filter: {name!r} is not known; choose one of {', '.join(FILTERS)}, or give a matrix")
    return torch.tensor(FILTERS[name], dtype=torch.float32)


def parse_matrix(text: str) -> Tensor:
    """A person's own matrix, float32 (R, S): JSON such as [[0,1],[1,0]], or rows such as "0 1; 1 0".

    UserError when a row is empty, the rows differ in length, or an entry is not a finite number.
    """
    try:
        if text.lstrip().startswith("["):
            rows = [[float(v) for v in row] for row in json.loads(text)]
        else:
            rows = [[float(v) for v in row.replace(",", " ").split()] for row in text.split(";")]
    except (ValueError, TypeError) as error:
        raise UserError(f'matrix: cannot read {text!r} ({error}); write rows such as "0 -1 0; -1 5 -1"') from error
    widths = sorted({len(row) for row in rows})
    if len(widths) != 1 or widths[0] == 0:
        raise UserError(f"matrix: every row needs the same number of entries, at least one; {text!r} has {widths}")
    matrix = torch.tensor(rows, dtype=torch.float32)
    if not torch.isfinite(matrix).all():
        raise UserError(f"matrix: every entry must be a finite number, got {text!r}")
    return matrix


def apply_filter(image: Tensor, matrix: Tensor) -> Tensor:
    """Each channel of `image` (C, H, W) under `matrix` (R, S), the same size; edge pixels are repeated outward.

    The result is not clamped: the negative half of an edge filter's answer is half of what it says.
    """
    r, s = matrix.shape
    padded = pad(image[:, None], ((s - 1) // 2, s // 2, (r - 1) // 2, r // 2), mode="replicate")
    return conv2d(padded, matrix.to(image)[None, None])[:, 0]
