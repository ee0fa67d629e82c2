"""From the gradient of an activated (and pooled) map to the gradient of the convolution's output and of its bias.

dz[n, k, p, q] = dy[n, k, p, q] where y[n, k, p, q] > 0                after conv + ReLU
dz[n, k, p, q] = dy[n, k, p // 2, q // 2] * share of (p, q) in it      after conv + ReLU + 2x2 pool, from the code
db[k]          = sum over n, p, q of dz[n, k, p, q]                    in two passes, without atomics

M = units: pixels, or squares of 2x2 pixels after a pool. Maps are dense, and N is what lies side by side in memory:
channels in channels_last, and in NCHW V pixels of a plane (or V squares of a row) of one channel.
"""

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.device import PROGRAMS
from kernels.common.jit import unravel
from kernels.common.launch import launch
from kernels.common.layout import empty, memory_format
from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.common.arguments import per_split

TILE = 2048
"""Elements of a program in channels_last, of at most CHANNELS channels."""
CHANNELS, LANES = 64, 128


@triton.jit
def _share(b_dy, b_code, POSITION: tl.constexpr, MODE: tl.constexpr):
    """What a window sends to one of its four positions."""
    if MODE == "max":
        return tl.where(b_code == POSITION, b_dy, 0.0)
    return tl.where((b_code >> POSITION) & 1 == 1, b_dy * 0.25, 0.0)


@triton.jit
def dz_kernel(
    dy_ptr,
    y_ptr,
    dz_ptr,
    db_ptr,
    units,
    units_per_split,
    channels,
    p,
    q,
    pooled_p,
    pooled_q,
    rows,
    row,
    MODE: tl.constexpr,
    HAS_DZ: tl.constexpr,
    LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    V: tl.constexpr,
):
    """MODE "bias": dz = dy. "relu": y is the activated map. "max", "average": y is the pool's code (see fprop_pool).

    A unit is one of `row` in each of the `rows` rows of an image. channels: of the map, in blocks of V if LAST.
    """
    POOLED: tl.constexpr = MODE == "max" or MODE == "average"
    k = channels * V if LAST else channels
    blocks = tl.cdiv(k, BLOCK_N) if LAST else k
    i_n = (tl.program_id(0) % blocks).to(INDEX)
    i_split = (tl.program_id(0) // blocks).to(INDEX)
    o_n = (i_n * BLOCK_N if LAST else 0) + tl.arange(0, BLOCK_N)[None, :]
    first = i_split * units_per_split
    last = tl.minimum(first + units_per_split, units)
    b_db = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for m_0 in range(0, units_per_split, BLOCK_M):
        o_m = first + m_0 + tl.arange(0, BLOCK_M)
        m = (o_m < last)[:, None] & (o_n < k) if LAST else (o_m < last)[:, None]
        if POOLED:
            o_i, o_u, o_v = unravel(o_m, rows, row)
            o_i = o_i[:, None]
            o_u = o_u[:, None]
            o_v = o_v[:, None]
            m_y = m & (o_u < pooled_p) & (o_v * (1 if LAST else V) < pooled_q)
            if LAST:
                o_y = ((o_i * pooled_p + o_u) * pooled_q + o_v) * k + o_n
            else:
                # Rows of an odd number of pixels have one square more than windows, and chunks of one.
                o_y = (((o_i * k + i_n) * pooled_p + o_u) * (row if V > 1 else pooled_q) + o_v) * V + o_n
        elif LAST:
            m_y = m
            o_y = o_m[:, None] * k + o_n
        else:
            m_y = m
            o_y = (((o_m // row) * k + i_n) * row + o_m % row)[:, None] * V + o_n
        b_dz = tl.load(dy_ptr + o_y, mask=m_y, other=0.0).to(ACC)
        if MODE == "relu":
            b_y = tl.load(y_ptr + o_y, mask=m_y, other=0.0)
            b_dz = tl.where(b_y <= 0, 0.0, b_dz)
        if POOLED:
            b_code = tl.load(y_ptr + o_y, mask=m_y, other=4 if MODE == "max" else 0).to(tl.int32)
            b_00 = _share(b_dz, b_code, 0, MODE)
            b_01 = _share(b_dz, b_code, 1, MODE)
            b_10 = _share(b_dz, b_code, 2, MODE)
            b_11 = _share(b_dz, b_code, 3, MODE)
            m_down = m & (2 * o_u + 1 < p)
            if LAST:
                p_dz = dz_ptr + (((o_i * p + 2 * o_u) * q + 2 * o_v) * k + o_n)
                m_right = 2 * o_v + 1 < q
                tl.store(p_dz, b_00.to(dz_ptr.dtype.element_ty), mask=m)
                tl.store(p_dz + k, b_01.to(dz_ptr.dtype.element_ty), mask=m & m_right)
                p_dz += q * k
                tl.store(p_dz, b_10.to(dz_ptr.dtype.element_ty), mask=m_down)
                tl.store(p_dz + k, b_11.to(dz_ptr.dtype.element_ty), mask=m_down & m_right)
            else:
                o_pair = tl.arange(0, 2 * V)[None, :]
                step = row * 2 * V if V > 1 else q
                o_dz = ((o_i * k + i_n) * p + 2 * o_u) * step + o_v * 2 * V + o_pair
                m_dz = m if V > 1 else m & (2 * o_v + o_pair < q)
                b_upper = tl.join(b_00, b_01).reshape(BLOCK_M, 2 * V)
                b_lower = tl.join(b_10, b_11).reshape(BLOCK_M, 2 * V)
                tl.store(dz_ptr + o_dz, b_upper.to(dz_ptr.dtype.element_ty), mask=m_dz)
                tl.store(dz_ptr + o_dz + step, b_lower.to(dz_ptr.dtype.element_ty), mask=m_dz & (2 * o_u + 1 < p))
            b_dz = (b_00 + b_01) + (b_10 + b_11)
        elif HAS_DZ:
            tl.store(dz_ptr + o_y, b_dz.to(dz_ptr.dtype.element_ty), mask=m)
        b_db += b_dz
    if LAST:
        tl.store(db_ptr + i_split * k + o_n, tl.sum(b_db, axis=0)[None, :], mask=o_n < k)
    else:
        tl.store(db_ptr + i_split * k + i_n, tl.sum(tl.sum(b_db, axis=1), axis=0))


def dz_bias(
    mode: str, dy: Tensor, y: Tensor | None, size: tuple[int, ...], channels_last: bool
) -> tuple[Tensor, Tensor]:
    """The convolution's output gradient dz [n, k, p, q] = `size`, and the bias gradient db [k]; `mode` as above.

    Mode "bias" returns an empty dz: it would equal dy.
    """
    n, k, p, q = size
    dz = empty(dy, size if mode != "bias" else (0,) * 4, channels_last)
    db = dy.new_empty(k)
    if n * p * q == 0 or k == 0:
        return dz, db.zero_()
    form = memory_format(channels_last)
    dy = dy.contiguous(memory_format=form)
    y = dy if y is None else y.contiguous(memory_format=form)
    units = _units(mode in ("max", "average"), size, 16 // dy.element_size(), channels_last)
    block_m, block_n = units.pop("BLOCK_M"), units["BLOCK_N"]
    blocks = math.ceil(k / block_n) if channels_last else k
    splits = max(1, min(math.ceil(PROGRAMS / blocks), math.ceil(units["units"] / block_m)))
    partial = partial_sums(db, splits)
    launch(
        dz_kernel,
        splits * blocks,
        dy_ptr=dy,
        y_ptr=y,
        dz_ptr=dz,
        db_ptr=partial,
        units_per_split=per_split(units["units"], splits, block_m),
        p=p,
        q=q,
        pooled_p=dy.shape[2],
        pooled_q=dy.shape[3],
        MODE=mode,
        HAS_DZ=mode != "bias",
        LAST=channels_last,
        INDEX=index(dy, dz, y, numel=n * k * p * q),
        ACC=accumulator(dy),
        BLOCK_M=block_m,
        **units,
    )
    reduce(partial, db)
    return dz, db


def _units(pooled: bool, size: tuple[int, ...], wide: int, channels_last: bool) -> dict[str, Any]:
    """How the pixels or squares of a map are numbered, and the tile of a program; `wide`: elements of 16 bytes."""
    n, k, p, q = size
    rows, row = (math.ceil(p / 2), math.ceil(q / 2)) if pooled else (1, p * q)
    if channels_last:
        v = math.gcd(k, wide)
        block_n = min(CHANNELS, triton.next_power_of_2(k))
        tile = {"channels": k // v, "BLOCK_M": TILE // block_n, "BLOCK_N": block_n}
    else:
        v = 1 if pooled and q % 2 else math.gcd(row, wide)
        row //= v
        tile = {"channels": k, "BLOCK_M": LANES * max(1, 4 // v), "BLOCK_N": v}
    return {"units": n * rows * row, "rows": rows, "row": row, "V": v, **tile}
