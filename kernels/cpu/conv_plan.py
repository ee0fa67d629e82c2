"""Which kernel runs a convolution on CPU tensors: geometry, measured rule, and the plan that the kernels read."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from kernels.cpu import native
from kernels.cpu import pool_plan as pools
from kernels.cpu.pool_plan import Sizes, UnusualError, Window, layout, pair, strides_of, thread_count
from kernels.cpu.torch_faults import short_rows

FEW_CHANNELS, SOME_CHANNELS, MOST_CHANNELS = 4, 8, 64
"""Direct convolution wins with few input channels, with some on rows that fill its vectors, and with up to the most in
a small problem, where setting up oneDNN costs 30 us; else oneDNN's blocked layout wins."""
WIDE = 16
SMALL_WORK = 4_000_000
"""Multiply-adds of a small problem."""
LEAST_OUTPUTS = 8192
"""Fewer convolved elements are not worth a pass of ReLU and pool of our own."""
LEAST_MAP, LEAST_WIDE_MAP, FEW_TAPS = 49, 64, 1 << 14
"""Smaller depthwise outputs of 3x3 and of 5x5 filters cost more to begin than to compute: they pay where there are few
taps in all, so that torch's set-up is the larger cost."""
LEAST_PLANE, FEW_OUTPUTS = 144, 1 << 16
SHORT_PLANE, IN_CACHE = 400, 1 << 18
"""The same where rows are laid out in a band first. With gradients short ones pay while all outputs stay in the cache:
the weight gradient jumps from image to image."""
MOST_DEPTHWISE_TAPS = 25
"""csrc/depthwise.cpp: TAPS."""


class Geometry(NamedTuple):
    """A convolution's integers, as torch's convolution operators take them."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Epilogue(NamedTuple):
    """What follows the convolution."""

    relu: bool
    window: Window | None = None

    @property
    def square(self) -> bool:
        """A 2x2 pool with stride 2, which the direct kernel does in registers."""
        return self.window is not None and self.window[1:5] == ((2, 2), (2, 2), (0, 0), False)


class Plan(NamedTuple):
    """One convolution with its epilogue, ready to run.

    kind: "direct", "depthwise", or "pool" (torch's convolution, then the compiled ReLU and pool in one pass).
    shape, stride: of the result. address: of `fields`, for the kinds that have a convolution kernel.
    after: the pool over the convolution's output. transposed: the input gradient of a depthwise plan, if planned.
    """

    kind: str
    geometry: Geometry
    epilogue: Epilogue
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    address: int = 0
    fields: native.ConvPlan | None = None
    after: pools.Plan | None = None
    transposed: Plan | None = None


def same_padding(kernel: int, dilation: int) -> int:
    """The padding that "same" puts on both sides; UnusualError where the sides differ, which is torch's."""
    total = dilation * (kernel - 1)
    if total % 2:
        raise UnusualError
    return total // 2


def geometry_of(r: int, s: int, stride: Sizes, padding: Any, dilation: Sizes, groups: int) -> Geometry:
    """The integers of a call; UnusualError for anything that is torch's to judge."""
    steps, dilations = pair(stride), pair(dilation)
    if padding == "same" and steps == (1, 1):
        pads = (same_padding(r, dilations[0]), same_padding(s, dilations[1]))
    elif isinstance(padding, str):
        if padding != "valid":
            raise UnusualError
        pads = (0, 0)
    else:
        pads = pair(padding)
    if min(pads) < 0 or min(*steps, *dilations, groups) < 1:
        raise UnusualError
    return Geometry(steps, pads, dilations, groups)


def epilogue_of(
    relu: bool, pool: str | None, kernel: Sizes, stride: Sizes, padding: Sizes, ceil_mode: bool
) -> Epilogue:
    """ReLU and pool of a call; UnusualError for anything that is torch's to judge."""
    if pool is None:
        return Epilogue(relu)
    return Epilogue(
        relu,
        Window(pool == "avg", pair(kernel), pair(kernel if stride in (None, ()) else stride), pair(padding), ceil_mode),
    )


def direct_wins(c: int, q: int, stride: int, work: int, pooled: bool) -> bool:
    """Whether direct convolution of c channels to rows of q was measured faster than oneDNN."""
    if c <= MOST_CHANNELS and work <= SMALL_WORK:
        return True
    if stride > 2 and not pooled:  # rows are laid out element by element: 0.87x on 11x11 with stride 4
        return False
    return c <= FEW_CHANNELS or (q >= WIDE and c <= (2 * SOME_CHANNELS if pooled else SOME_CHANNELS))


def reads_map(isa: str, r: int, s: int, geometry: Geometry, bf16: bool) -> bool:
    """Whether csrc/map.h takes a depthwise filter: square and small, on vectors whose lanes can be masked off."""
    stride = geometry.stride
    square = r == s and stride[0] == stride[1] and stride[0] <= 2 and geometry.dilation == (1, 1)
    return square and r in (3, 5) and (isa == "avx512" or (isa == "avx2" and not bf16))


def spreads(isa: str, fields: native.ConvPlan, geometry: Geometry) -> bool:
    """Whether the compiled input gradient takes a strided depthwise plan: one filter for each channel."""
    fits = reads_map(isa, fields.r, fields.s, geometry, bool(fields.bf16))
    return fits and fields.sh == 2 and fields.k == fields.c


def depthwise_wins(n: int, w_shape: tuple[int, ...], plane: int, from_map: bool, training: bool) -> bool:
    """Whether a depthwise kernel was measured faster than torch's on output planes of so many elements."""
    planes, taps = n * w_shape[0], w_shape[2] * w_shape[3]
    fair = plane >= (LEAST_MAP if taps <= 9 else LEAST_WIDE_MAP) or planes * taps <= FEW_TAPS
    least, most = (SHORT_PLANE, IN_CACHE) if training else (LEAST_PLANE, FEW_OUTPUTS)
    return fair and (from_map or plane >= least or planes * plane <= most)


def kind_of(
    contiguous: bool, w_shape: tuple[int, ...], geometry: Geometry, out: tuple[int, ...], epilogue: Epilogue,
    training: bool, bf16: bool,
) -> str | None:  # fmt: skip
    """Which kernel takes a convolution to an output of shape `out`, by measured rule."""
    (k, c_group, r, s), (n, _, p, q) = w_shape, out
    pooled, outputs = epilogue.window is not None, n * k * p * q
    if contiguous and geometry.groups == 1 and r * s > 1 and (epilogue.square or not pooled):
        if direct_wins(c_group, q, geometry.stride[1], outputs * c_group * r * s, pooled):
            return "direct" if pooled or not training else None
    elif contiguous and c_group == 1 and 1 < r * s <= MOST_DEPTHWISE_TAPS and not pooled:
        isa = native.KERNELS.isa if native.KERNELS is not None else ""
        wins = depthwise_wins(n, w_shape, p * q, reads_map(isa, r, s, geometry, bf16), training)
        return "depthwise" if wins else None
    return "pool" if pooled and outputs >= LEAST_OUTPUTS else None


def direct_plan(
    kind: str, shape: tuple[int, ...], w_shape: tuple[int, ...], out: tuple[int, int], geometry: Geometry,
    epilogue: Epilogue, bf16: bool, threads: int, after: pools.Plan | None = None, transposed: Plan | None = None,
) -> Plan:  # fmt: skip
    """The plan of a compiled convolution of contiguous tensors; `out` is the convolution's own output size."""
    (n, c, h, w), (k, c_group, r, s), (p, q) = shape, w_shape, out
    (sh, sw), (ph, pw), (dh, dw), _ = geometry
    pool = 0 if epilogue.window is None else 2 if epilogue.window.average else 1
    workers = thread_count(n * k * p * q * c_group * r * s // 8, threads)
    fields = native.ConvPlan(
        n, c, h, w, k, r, s, sh, sw, ph, pw, dh, dw, p, q, p // 2, q // 2, epilogue.relu, pool, bf16, workers
    )
    result = (n, k, p, q) if after is None else after.shape
    stride = strides_of(result, False)
    return Plan(
        kind, geometry, epilogue, result, stride, native.address(fields), fields, after=after, transposed=transposed
    )


def transposed_plan(
    shape: tuple[int, ...], w_shape: tuple[int, ...], out: tuple[int, int], geometry: Geometry, bf16: bool, threads: int
) -> Plan | None:
    """A depthwise input gradient: with stride 1, the forward pass over the turned filter. None for other strides."""
    (n, c, h, w), (k, _, r, s) = shape, w_shape
    (dh, dw), pads = geometry.dilation, geometry.padding
    padding = (dh * (r - 1) - pads[0], dw * (s - 1) - pads[1])
    if geometry.stride != (1, 1) or k != c or min(padding) < 0:
        return None
    turned = geometry._replace(padding=padding)
    return direct_plan("depthwise", (n, k, *out), w_shape, (h, w), turned, Epilogue(False), bf16, threads)


@lru_cache(maxsize=4096)
def plan_of(
    shape: tuple[int, ...], x_stride: tuple[int, ...], w_shape: tuple[int, ...], w_stride: tuple[int, ...], bf16: bool,
    threads: int, training: bool, stride: Sizes, padding: Any, dilation: Sizes, groups: int,
    relu: bool, pool: str | None, pool_kernel: Sizes, pool_stride: Sizes, pool_padding: Sizes, ceil_mode: bool,
) -> Plan | None:  # fmt: skip
    """The plan of a call, or None where torch's operators are to run."""
    if len(shape) != 4 or len(w_shape) != 4 or not all(shape) or not all(w_shape):
        return None
    (n, c, h, w), (k, c_group, r, s) = shape, w_shape
    geometry = geometry_of(r, s, stride, padding, dilation, groups)
    epilogue = epilogue_of(relu, pool, pool_kernel, pool_stride, pool_padding, ceil_mode)
    (sh, sw), (ph, pw), (dh, dw), _ = geometry
    p, q = (h + 2 * ph - dh * (r - 1) - 1) // sh + 1, (w + 2 * pw - dw * (s - 1) - 1) // sw + 1
    if c != c_group * groups or k % groups or p < 1 or q < 1:
        return None
    if (bf16 or dw > 1) and short_rows(w, s, sw, pw, dw):
        return None
    last, w_last = layout(shape, x_stride), layout(w_shape, w_stride)
    if last is None or w_last is None:
        return None
    contiguous = not (last or w_last)
    kind = kind_of(contiguous, w_shape, geometry, (n, k, p, q), epilogue, training, bf16)
    after = None
    if epilogue.window is not None:
        out = (n, k, p, q)
        after = pools.make_plan(out, strides_of(out, not contiguous), bf16, epilogue.window, relu, threads)
        if after is None:
            return None
    if kind == "pool":
        assert after is not None
        return Plan(kind, geometry, epilogue, after.shape, after.stride, after=after)
    if kind is None:
        return None
    turned = transposed_plan(shape, w_shape, (p, q), geometry, bf16, threads) if kind == "depthwise" else None
    return direct_plan(kind, shape, w_shape, (p, q), geometry, epilogue, bf16, threads, after, turned)
