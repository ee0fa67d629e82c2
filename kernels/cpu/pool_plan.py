"""Which kernel runs a pool on CPU tensors: geometry, measured rule, and the plan that the kernels read."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from kernels.cpu import native
from kernels.cpu.guard import TYPES

Sizes: TypeAlias = "int | tuple[int, ...] | None"

MAX_TAPS = 9
"""Larger windows are torch's: there its own loops are at the bandwidth of memory."""
THREAD_WORK = 1 << 15
"""Input elements that one thread should at least have: below, waking another thread costs more than it saves."""


LEAST = {
    # (channels_last, few channels, average): least input elements without gradients, and with them
    (False, False, False): (0, 8192),
    (False, False, True): (1024, 8192),
    (True, True, False): (0, 16384),
    (True, True, True): (4096, 32768),
    (True, False, False): (0, 131072),
    (True, False, True): (262144, 262144),
}
"""Below these sizes torch's operator wins: without gradients the kernels cost 1.2 us, and torch's maximum more, its
average less; an autograd node of ours costs 9 us more than torch's."""
PAIR = (2, (2, 2), [2, 2])
ONES = (1, (1, 1))
SLICE_ELEMENTS = 10_000
LEAST_WINDOW, LEAST_ROW = 16384, 8
"""Least input elements and output columns of n c h w windows other than 2x2 with stride 2, whose rows are copied first;
an average needs twice the columns."""


class UnusualError(Exception):
    """An argument that torch is to judge: it names what is wrong, or runs what we do not."""


class Window(NamedTuple):
    """A pooling window as torch takes it; `divisor` and `include_pad` matter to the average only."""

    average: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool = False
    include_pad: bool = True
    divisor: int | None = None


class Plan(NamedTuple):
    """One pooling problem, ready to run: the address of `fields` is what the kernels take."""

    address: int
    fields: native.PoolPlan
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    channels_last: bool
    window: Window


def sizes(value: Any) -> Sizes:
    """A size argument as a key: None, an int or a tuple of ints; UnusualError for anything else, which is torch's."""
    if value is None or type(value) is int:
        return value  # type: ignore[no-any-return]
    if type(value) in (tuple, list, torch.Size) and all(type(v) is int for v in value):
        return tuple(value)
    raise UnusualError


def pair(value: Sizes) -> tuple[int, int]:
    """(v, v) for v, (a, b) for (a, b); UnusualError otherwise."""
    if isinstance(value, int):
        return (value, value)
    if value is None or not 1 <= len(value) <= 2:
        raise UnusualError
    return (value[0], value[-1])


def layout(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool | None:
    """Whether dense memory is channels_last (True) or contiguous (False); None for any other or ambiguous strides."""
    c, h, w = shape[-3:]
    batch = shape[:-3]
    if stride == (*(c * h * w for _ in batch), h * w, w, 1):
        return False
    if batch and stride == (c * h * w, 1, w * c, c) and c > 1 and h * w > 1:
        return True
    return None


def output_size(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    """torch's rule: with ceil_mode no window starts beyond the image and its left padding."""
    out = -((kernel - size - 2 * padding) // stride) if ceil_mode else (size + 2 * padding - kernel) // stride
    out += 1
    return out - 1 if ceil_mode and (out - 1) * stride >= size + padding else out


def strides_of(shape: tuple[int, ...], channels_last: bool) -> tuple[int, ...]:
    """The dense strides of `shape` in either memory format."""
    c, h, w = shape[-3:]
    image = tuple(c * h * w for _ in shape[:-3])
    return (*image, 1, w * c, c) if channels_last else (*image, h * w, w, 1)


def thread_count(work: int, threads: int) -> int:
    """Threads for `work` elements: torch's setting, fewer for small work."""
    return max(1, min(threads, work // THREAD_WORK))


def small(x: Tensor, average: bool) -> bool:
    """Whether torch's operator is certainly right, found in 0.2 us: a tiny tensor, or anything that is no tensor."""
    if type(x) not in TYPES or torch.compiler.is_compiling():
        return True
    elements = x.numel()
    if x.requires_grad and elements < 8192:
        return True
    return average and (elements < 1024 or (elements < 262144 and x.dim() == 4 and x.stride(3) >= 16))


def worthwhile(plan: Plan, bf16: bool, training: bool) -> bool:
    """Whether the kernels were measured faster than torch's operator on a pool of this size."""
    d = plan.fields
    elements = d.n * d.c * d.h * d.w
    pair = (d.kh, d.kw, d.sh, d.sw, d.ph, d.pw) == (2, 2, 2, 2, 0, 0)
    least = LEAST[plan.channels_last, plan.channels_last and d.c < 16, bool(d.average)][training]
    if pair:
        return bool(elements >= least)
    if plan.channels_last:
        return bool(elements >= least) and not (training and not bf16 and (d.average or d.c < 32))
    return bool(elements >= LEAST_WINDOW and d.q >= (2 * LEAST_ROW if d.average else LEAST_ROW))


def make_plan(
    shape: tuple[int, ...], stride: tuple[int, ...], bf16: bool, window: Window, relu: bool, threads: int
) -> Plan | None:
    """The plan of a pool over memory of this shape, or None where the kernels do not apply."""
    if len(shape) not in (3, 4) or not all(shape[-3:]):
        return None
    channels_last = layout(shape, stride)
    (kh, kw), (sh, sw), (ph, pw) = window.kernel, window.stride, window.padding
    if channels_last is None or min(kh, kw, sh, sw) < 1 or kh * kw > MAX_TAPS or window.divisor == 0:
        return None
    if min(ph, pw) < 0 or ph > kh // 2 or pw > kw // 2 or (relu and window.average and kh * kw > 8):
        return None
    c, h, w = shape[-3:]
    p = output_size(h, kh, sh, ph, window.ceil_mode)
    q = output_size(w, kw, sw, pw, window.ceil_mode)
    if p < 1 or q < 1:
        return None
    n = math.prod(shape[:-3])
    fields = native.PoolPlan(
        n, c, h, w, p, q, kh, kw, sh, sw, ph, pw, window.average, relu, channels_last, bf16,
        window.include_pad, window.divisor or 0, thread_count(n * c * h * w, threads),
    )  # fmt: skip
    out = (*shape[:-2], p, q)
    return Plan(native.address(fields), fields, out, strides_of(out, channels_last), channels_last, window)


@lru_cache(maxsize=4096)
def max_plan(
    shape: tuple[int, ...], stride: tuple[int, ...], bf16: bool, threads: int,
    training: bool, kernel: Sizes, step: Sizes, padding: Sizes, ceil_mode: bool,
) -> Plan | None:  # fmt: skip
    """The plan of a max_pool2d call, or None where torch's operator is to run."""
    window = Window(False, pair(kernel), pair(kernel if step in (None, ()) else step), pair(padding), ceil_mode)
    plan = make_plan(shape, stride, bf16, window, False, threads)
    return plan if plan is not None and worthwhile(plan, bf16, training) else None


@lru_cache(maxsize=4096)
def avg_plan(
    shape: tuple[int, ...], stride: tuple[int, ...], bf16: bool, threads: int,
    training: bool, kernel: Sizes, step: Sizes, padding: Sizes, ceil_mode: bool,
    include_pad: bool, divisor: int | None,
) -> Plan | None:  # fmt: skip
    """The plan of an avg_pool2d call, or None where torch's operator is to run."""
    window = Window(
        True, pair(kernel), pair(kernel if step in (None, ()) else step), pair(padding), ceil_mode, include_pad, divisor
    )
    plan = make_plan(shape, stride, bf16, window, False, threads)
    return plan if plan is not None and worthwhile(plan, bf16, training) else None
