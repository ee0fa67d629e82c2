"""Max pooling along one axis of a dense map, forward and backward: half of a large window with stride 1 (separable.py).

A map is seen as [outer, length, inner] and a window as K taps along its middle axis; a lane has V neighbours of the
inner one.

forward   y[p] = max over i of x[p + i - PAD]; its tap i, or with the taps j of the other axis i * SPAN + j
backward  dx[t] = sum over i of dy[t + PAD - i] where the code there lies in i * SPAN .. i * SPAN + SPAN - 1

Forward a lane has K results, whose windows all hold the border between the K-th and the next of 2 K - 1 elements: each
is the best of a run that ends there and one that begins there. So three comparisons make a result, however large K is
(van Herk, Pattern Recognition Letters 13, 1992).
"""

import triton
import triton.language as tl

from kernels.pool2d.lanes import added, met, places


@triton.jit
def _element(
    p_x, p_taps, o_t, length, m, step, t: tl.constexpr, SPAN: tl.constexpr, WANT_CODE: tl.constexpr,
    TYPE: tl.constexpr, V: tl.constexpr,
):  # fmt: skip
    """Element t of a lane and its code: SPAN times its number, and the other axis' tap."""
    m_x = m & (o_t + t >= 0) & (o_t + t < length)
    b = tl.load(p_x + t * step, mask=m_x, other=float("-inf")).to(TYPE)
    o = tl.zeros(b.shape, tl.int32)
    if WANT_CODE:
        o += t * SPAN
        if SPAN > 1:
            o += tl.load(p_taps + t * step, mask=m_x, other=0).to(tl.int32)
    return b, o


@triton.jit
def line_max_pool_kernel(
    x_ptr,
    taps_ptr,
    y_ptr,
    code_ptr,
    chunks,
    length,
    results,
    blocks,
    inner,
    K: tl.constexpr,
    PAD: tl.constexpr,
    SPAN: tl.constexpr,
    WANT_CODE: tl.constexpr,
    NEAR: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """blocks: of K results; inner counts chunks. SPAN: the other axis' taps, of which taps_ptr has the winner at every
    x; 1 where there is no other axis yet. PAD is at most half of K, so that every window holds an element."""
    zero = tl.full((), 0, INDEX)
    o, o_i, o_block, _, o_c = places(blocks, 1, inner, NEAR, INDEX, BLOCK)
    m = (o < chunks)[:, None]
    o_p = (o_block * K)[:, None]
    o_t = o_p - PAD
    o_v = tl.arange(0, V)[None, :]
    step = (zero + inner) * V
    o_x = ((o_i[:, None] * length + o_t) * inner + o_c[:, None]) * V + o_v
    p_x = x_ptr + o_x
    p_taps = taps_ptr + o_x
    b_ends = ()
    o_ends = ()
    for r in tl.static_range(K):
        b, o_code = _element(p_x, p_taps, o_t, length, m, step, K - 1 - r, SPAN, WANT_CODE, TYPE, V)
        if r > 0:
            b_end = b_ends[r - 1]
            if WANT_CODE:  # what lies before the map loses, even against -inf
                m_later = (b_end > b) | (b_end != b_end) | (o_t + (K - 1 - r) < 0)
                b = tl.where(m_later, b_end, b)
                o_code = tl.where(m_later, o_ends[r - 1], o_code)
            else:
                b, o_code = met(b_end, 0, b, o_code, False)
        b_ends = b_ends + (b,)
        o_ends = o_ends + (o_code,)
    o_y = ((o_i[:, None] * results + o_p) * inner + o_c[:, None]) * V + o_v
    for n in tl.static_range(K):
        b = b_ends[K - 1 - n]
        o_code = o_ends[K - 1 - n]
        if n > 0:
            b_next, o_next = _element(p_x, p_taps, o_t, length, m, step, K - 1 + n, SPAN, WANT_CODE, TYPE, V)
            if n == 1:
                b_run = b_next
                o_run = o_next
            else:
                b_run, o_run = met(b_next, o_next, b_run, o_run, WANT_CODE)
            b, o_code = met(b_run, o_run, b, o_code, WANT_CODE)
        m_y = m & (o_p + n < results)
        tl.store(y_ptr + (o_y + n * step), b.to(y_ptr.dtype.element_ty), mask=m_y)
        if WANT_CODE:
            tl.store(code_ptr + (o_y + n * step), (o_code - n * SPAN).to(code_ptr.dtype.element_ty), mask=m_y)


@triton.jit
def line_max_pool_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    taps_ptr,
    chunks,
    length,
    results,
    blocks,
    inner,
    K: tl.constexpr,
    PAD: tl.constexpr,
    SPAN: tl.constexpr,
    RUN: tl.constexpr,
    NEAR: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """length: of dx, of which a lane has RUN elements. SPAN above 1: taps_ptr takes the other axis' tap of the windows
    whose maximum lies here, which is the same for all of them; SPAN where there is no such window."""
    zero = tl.full((), 0, INDEX)
    o, o_i, o_block, _, o_c = places(blocks, 1, inner, NEAR, INDEX, BLOCK)
    m = (o < chunks)[:, None]
    o_t = (o_block * RUN)[:, None]
    o_p = o_t + (PAD - (K - 1))  # the first window that meets the lane's elements
    o_v = tl.arange(0, V)[None, :]
    step = (zero + inner) * V
    o_dy = ((o_i[:, None] * results + o_p) * inner + o_c[:, None]) * V + o_v
    b_dx = ()
    o_taps = ()
    for _ in tl.static_range(RUN):
        b_dx = b_dx + (tl.zeros((BLOCK, V), TYPE),)
        o_taps = o_taps + (tl.full((BLOCK, V), SPAN, tl.int32),)
    for t in tl.static_range(RUN + K - 1):
        m_dy = m & (o_p + t >= 0) & (o_p + t < results)
        b_code = tl.load(code_ptr + (o_dy + t * step), mask=m_dy, other=K * SPAN).to(tl.int32)
        b_dy = tl.load(dy_ptr + (o_dy + t * step), mask=m_dy, other=0.0).to(TYPE)
        b_next = ()
        o_next = ()
        for n in tl.static_range(RUN):
            if n + K - 1 - t >= 0 and n + K - 1 - t < K:
                o_rest = b_code - (n + K - 1 - t) * SPAN
                m_own = (o_rest >= 0) & (o_rest < SPAN)
                b_next = b_next + (added(b_dx[n], b_dy, m_own),)
                o_next = o_next + (tl.where(m_own, o_rest, o_taps[n]),)
            else:
                b_next = b_next + (b_dx[n],)
                o_next = o_next + (o_taps[n],)
        b_dx = b_next
        o_taps = o_next
    o_dx = ((o_i[:, None] * length + o_t) * inner + o_c[:, None]) * V + o_v
    for n in tl.static_range(RUN):
        m_dx = m & (o_t + n < length)
        tl.store(dx_ptr + (o_dx + n * step), b_dx[n].to(dx_ptr.dtype.element_ty), mask=m_dx)
        if SPAN > 1:
            tl.store(taps_ptr + (o_dx + n * step), o_taps[n].to(taps_ptr.dtype.element_ty), mask=m_dx)
