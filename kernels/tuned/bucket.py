"""Buckets: problems so alike that one measurement speaks for all of them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from kernels.common.arguments import Pair
from kernels.common.precision import PRECISIONS

NEAR = 2.0
"""The largest distance at which a bucket's tile is still worth trying on another problem."""
_NUMBERS = r"c(\d+) k(\d+) g(\d+) (\d+)x(\d+) s(\d+)x(\d+) d(\d+)x(\d+) pixels(\d+) batch(\d+)"
_KEY = re.compile(r"(?P<which>\w+) (?P<precision>\w+) " + _NUMBERS)


@dataclass(frozen=True)
class Bucket:
    """A pass, its arithmetic and the shape: channels, window and steps exactly, sizes as rounded powers of two.

    which: a pass of conv2d/plans, "max_pool" or "avg_pool" (whose k and groups are c). pixels, batch: log2 of the
    outputs n * p * q and of n. Padding is left out: it moves the window and changes no plan.
    """

    which: str
    precision: str
    c: int
    k: int
    groups: int
    r: int
    s: int
    stride: Pair
    dilation: Pair
    pixels: int
    batch: int

    @staticmethod
    def of(which: str, g: Any, precision: str) -> Bucket:
        """The bucket of a pass over a Conv2dGeometry with at least one output."""
        sizes = _log2(g.n * g.p * g.q), _log2(g.n)
        return Bucket(which, precision, g.c, g.k, g.groups, g.r, g.s, g.stride, g.dilation, *sizes)

    @staticmethod
    def of_pool(which: str, shape: tuple[int, ...], g: Any, precision: str) -> Bucket:
        """The bucket of a pool over an input of shape (n, c, h, w) with at least one output; g: its Pool2dGeometry."""
        n, c = shape[:2]
        p, q = g.output(*shape[2:])
        r, s = g.kernel
        return Bucket(which, precision, c, c, c, r, s, g.stride, g.dilation, _log2(n * p * q), _log2(n))

    @property
    def key(self) -> str:
        """How a table writes it."""
        window = f"{self.r}x{self.s} s{self.stride[0]}x{self.stride[1]} d{self.dilation[0]}x{self.dilation[1]}"
        channels = f"c{self.c} k{self.k} g{self.groups}"
        return f"{self.which} {self.precision} {channels} {window} pixels{self.pixels} batch{self.batch}"

    @staticmethod
    def parse(key: str) -> Bucket:
        """The bucket that has this key; ValueError if none has."""
        found = _KEY.fullmatch(key)
        if found is None or found["precision"] not in PRECISIONS:
            raise ValueError(f"{key!r} is no bucket")
        c, k, groups, r, s, sh, sw, dh, dw, pixels, batch = map(int, found.groups()[2:])
        return Bucket(found["which"], found["precision"], c, k, groups, r, s, (sh, sw), (dh, dw), pixels, batch)

    def distance(self, other: Bucket) -> float:
        """How unlike two buckets are in doublings of channels and, at half the weight, of sizes; inf if in kind."""
        kinds = [(b.which, b.precision, b.r, b.s, b.stride, b.dilation, b.groups == 1) for b in (self, other)]
        if kinds[0] != kinds[1]:
            return math.inf
        widths = [(b.c // b.groups, b.k // b.groups) for b in (self, other)]
        channels = sum(abs(math.log2(a / b)) for a, b in zip(*widths, strict=True))
        return channels + (abs(self.pixels - other.pixels) + abs(self.batch - other.batch)) / 2


def _log2(size: int) -> int:
    return round(math.log2(size))
