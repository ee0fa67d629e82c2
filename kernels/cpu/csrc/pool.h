// What a pooling call is: checked sizes, shared by the forward and the backward pass and by kernels/cpu/native.py.
#pragma once

#include "threads.h"
#include "vector.h"

struct PoolPlan {
    int64_t n, c, h, w, p, q;            // input planes of h x w, output planes of p x q
    int64_t kh, kw, sh, sw, ph, pw;      // window, stride, padding
    int64_t average, relu;               // the pool of relu(x) when relu is set
    int64_t channels_last, bf16;         // memory of x and y: n h w c or n c h w; bfloat16 or float32
    int64_t include_pad, divisor;        // avg_pool2d's count_include_pad and divisor_override (0: none)
    int64_t threads;
};

// The code of an output element is one byte. Maximum: the tap (row * kw + column) that won, DEAD where relu leaves
// no gradient. Average of relu: bit t says that tap t is alive (so kh * kw <= 8). Plain average: no code.
constexpr uint8_t DEAD = 255;
constexpr int MAX_TAPS = 9;  // kh * kw; kernels/cpu/pool.py asks for no more

namespace ISA {

INLINE bool is_pair(const PoolPlan& d) {
    return d.kh == 2 && d.kw == 2 && d.sh == 2 && d.sw == 2 && d.ph == 0 && d.pw == 0 && 2 * d.p <= d.h &&
           2 * d.q <= d.w;
}

// The taps of a window that lie inside the image: [first, last) of `size` taps starting at input index `start`.
struct Taps {
    int64_t start, first, last;
};
INLINE Taps taps(int64_t output, int64_t stride, int64_t pad, int64_t size, int64_t input) {
    int64_t start = output * stride - pad;
    return {start, larger(0, -start), smaller(size, input - start)};
}

// What an average divides by, as torch counts: the window clipped to the padded image, or to the image.
INLINE int64_t counted(const Taps& t, int64_t pad, int64_t size, int64_t input, bool include_pad) {
    return include_pad ? smaller(t.start + size, input + pad) - t.start : t.last - t.first;
}
INLINE float divisor(const PoolPlan& d, const Taps& row, const Taps& column) {
    if (d.divisor) return float(d.divisor);
    return float(counted(row, d.ph, d.kh, d.h, d.include_pad) * counted(column, d.pw, d.kw, d.w, d.include_pad));
}

// The running result of LANES windows: the maximum with its tap, or the sum.
template <bool AVERAGE> struct Window {
    vfloat value = AVERAGE ? vfloat{} : splat(-__builtin_inff());
    vint code = {};

    INLINE void take(vfloat v, int tap, bool with_relu) {
        if (AVERAGE) {
            if (with_relu) {
                code |= (v <= 0.0f) ? vint{} : splat_int(1 << tap);
                v = ISA::relu(v);
            }
            value += v;
        } else {
            vint wins = beats(v, value);
            value = select(wins, v, value);
            code = wins ? splat_int(tap) : code;
        }
    }
    INLINE void finish(vfloat divide_by, bool with_relu) {
        if (AVERAGE) {
            value /= divide_by;
        } else if (with_relu) {
            code = value <= 0.0f ? splat_int(DEAD) : code;
            value = ISA::relu(value);
        }
    }
};

template <class T, bool AVERAGE> INLINE void write(const Window<AVERAGE>& out, T* y, uint8_t* code, int n) {
    if (n == LANES) {
        store(y, out.value);
        if (code) store_code(code, out.code);
    } else {
        store_part(y, out.value, n);
        if (code) store_code_part(code, out.code, n);
    }
}

}  // namespace ISA
