"""A convolution and a pooling done by hand: every window, every product, every sum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from torch import Tensor

from cnn.errors import UserError
from cnn.see.arithmetic import windows

Matrix: TypeAlias = list[list[float]]
Covered: TypeAlias = tuple[tuple[int, int], tuple[int, int], Matrix]


@dataclass(frozen=True)
class Move:
    """One position of the window: its output cell, its first pixel, the values it covers, and what comes out."""

    cell: tuple[int, int]
    first: tuple[int, int]
    window: Matrix
    result: float


def convolve(image: Tensor, kernel: Tensor, bias: float = 0.0, stride: int = 1, padding: int = 0) -> list[Move]:
    """The moves of one filter (R, S) over one channel (H, W), row by row; outside the image there are zeros."""
    if image.dim() != 2 or kernel.dim() != 2:
        raise UserError(f"an image and a kernel have rows and columns; got {tuple(image.shape)}, {tuple(kernel.shape)}")
    taps = kernel.tolist()
    covered = _covered(image, (len(taps), len(taps[0])), stride, padding)
    return [Move(cell, first, x, sum(map(sum, products(x, taps))) + bias) for cell, first, x in covered]


def pool(image: Tensor, kernel: int = 2, stride: int | None = None, kind: str = "max") -> list[Move]:
    """The moves of a pooling window over one channel (H, W). kind: "max" or "avg"; stride None: the kernel's size."""
    if kind not in ("max", "avg"):
        raise UserError(f'pool: kind must be "max" or "avg", not {kind!r}')
    moves = []
    for cell, first, window in _covered(image, (kernel, kernel), stride or kernel, 0):
        values = [v for row in window for v in row]
        moves.append(Move(cell, first, window, max(values) if kind == "max" else sum(values) / len(values)))
    return moves


def products(window: Matrix, taps: Matrix) -> Matrix:
    """Window times kernel, element by element."""
    return [[x * w for x, w in zip(xs, ws, strict=True)] for xs, ws in zip(window, taps, strict=True)]


def output(moves: list[Move]) -> Matrix:
    """The output map, put together from its moves."""
    width = 1 + max(move.cell[1] for move in moves)
    values = [move.result for move in moves]
    return [values[i : i + width] for i in range(0, len(values), width)]


def sentence(move: Move, kernel: Tensor, bias: float = 0.0) -> str:
    """A convolution's move in one line, the sum written out."""
    pairs = zip(chain(*move.window), chain(*kernel.tolist()), strict=True)
    terms = " + ".join(f"{number(x)}·{signed(w)}" for x, w in pairs)
    return f"{terms}{f' + {signed(bias)}' if bias else ''} = {number(move.result)}"


def number(value: float) -> str:
    """A value as a person would write it: 3, -0.5, 0.667."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def signed(value: float) -> str:
    """A number that can follow a sign: negative ones in brackets."""
    return f"({number(value)})" if value < 0 else number(value)


def _covered(image: Tensor, kernel: tuple[int, int], stride: int, padding: int) -> list[Covered]:
    """(output cell, first pixel, values) of every window position."""
    (h, w), pixels = image.shape, image.tolist()

    def at(y: int, x: int) -> float:
        return float(pixels[y][x]) if 0 <= y < h and 0 <= x < w else 0.0

    return [
        ((p, q), (y, x), [[at(y + r, x + s) for s in range(kernel[1])] for r in range(kernel[0])])
        for p, y in enumerate(windows(h, kernel[0], stride, padding))
        for q, x in enumerate(windows(w, kernel[1], stride, padding))
    ]
