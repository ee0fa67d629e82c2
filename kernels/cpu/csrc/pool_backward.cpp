// Max and average pooling, backward: from the output's gradient and the one-byte codes, no index tensor, no atomics.
//
// Every element of dx has one writer, and sums run in float32 in torch's order of the outputs. Planes (n c h w): 2x2
// windows with stride 2 write each element once, other windows add into a cleared plane. Images with channels last:
// each input pixel gathers from the windows that cover it.
#include "pool.h"

#include <atomic>
#include <cstdlib>
#include <memory>

namespace ISA {
namespace {

typedef std::unique_ptr<float[], decltype(&free)> Memory;
Memory allocate(int64_t count) {
    return Memory(static_cast<float*>(malloc(sizeof(float) * (count ? count : 1))), &free);
}

// The share of gradient g that tap `t` of a window receives.
template <bool AVERAGE> INLINE vfloat share(vfloat g, vint code, int tap, bool coded) {
    if (!AVERAGE) return select(code == tap, g, vfloat{});
    return coded ? select((code & (1 << tap)) != 0, g, vfloat{}) : g;
}

// The first n of the pairs a0 b0 a1 b1 .. to `to`.
template <class T> INLINE void write_pairs(T* to, vfloat a, vfloat b, int n) {
    if (n == LANES) {
        store(to, zip_low(a, b));
        store(to + LANES, zip_high(a, b));
        return;
    }
    store_part(to, zip_low(a, b), int(smaller(2 * n, LANES)));
    if (2 * n > LANES) store_part(to + LANES, zip_high(a, b), 2 * n - LANES);
}

template <class T> void clear(T* to, int64_t count) { memset(static_cast<void*>(to), 0, count * sizeof(T)); }

template <class T, bool AVERAGE> void pair_plane(const PoolPlan& d, const T* dy, const uint8_t* code, T* dx) {
    vfloat divide_by = splat(AVERAGE ? (d.divisor ? float(d.divisor) : 4.0f) : 1.0f);
    for (int64_t p = 0; p < d.p; p++, dy += d.q, code += code ? d.q : 0) {
        T* row[2] = {dx + 2 * p * d.w, dx + (2 * p + 1) * d.w};
        for (int64_t q = 0; q < d.q; q += LANES) {
            int n = rest(d.q, q);
            vfloat g = n == LANES ? load(dy + q) : load_part(dy + q, n);
            vint won = !code ? vint{} : n == LANES ? load_code(code + q) : load_code_part(code + q, n);
            if (AVERAGE) g /= divide_by;
            for (int r = 0; r < 2; r++)
                write_pairs(row[r] + 2 * q, share<AVERAGE>(g, won, 2 * r, code),
                            share<AVERAGE>(g, won, 2 * r + 1, code), n);
        }
        for (int64_t w = 2 * d.q; w < d.w; w++) row[0][w] = row[1][w] = from_float<T>(0.0f);
    }
    clear(dx + 2 * d.p * d.w, (d.h - 2 * d.p) * d.w);
}

// Any window of one plane; `sum` is a cleared float32 plane.
template <class T, bool AVERAGE> void scatter_plane(const PoolPlan& d, const T* dy, const uint8_t* code, float* sum) {
    for (int64_t p = 0; p < d.p; p++) {
        Taps r = taps(p, d.sh, d.ph, d.kh, d.h);
        for (int64_t q = 0; q < d.q; q++, dy++) {
            float g = to_float(*dy);
            int won = code ? *code++ : 0;
            if (!AVERAGE) {
                if (won != DEAD) sum[(r.start + won / d.kw) * d.w + q * d.sw - d.pw + won % d.kw] += g;
                continue;
            }
            Taps s = taps(q, d.sw, d.pw, d.kw, d.w);
            g /= divisor(d, r, s);
            for (int64_t i = r.first; i < r.last; i++)
                for (int64_t j = s.first; j < s.last; j++)
                    if (!code || (won >> (i * d.kw + j) & 1)) sum[(r.start + i) * d.w + s.start + j] += g;
        }
    }
}

// The windows [first, last) that cover input index `at`.
struct Cover {
    int64_t first, last;
};
INLINE Cover cover(int64_t at, int64_t kernel, int64_t stride, int64_t pad, int64_t outputs) {
    int64_t from = at + pad - kernel + 1;
    return {from > 0 ? ceil_div(from, stride) : 0, smaller(outputs, (at + pad) / stride + 1)};
}

// One input pixel: the sum of its windows, COUNT of them (0: as many as `windows` says).
template <int COUNT, class T, bool AVERAGE>
INLINE void add_windows(const PoolPlan& d, const T* dy, const uint8_t* code, const int64_t* at, const int* tap,
                        const float* divide_by, int windows, T* dx) {
    auto block = [&](int64_t c, int n) INLINE_LAMBDA {
        vfloat total = {};
        for (int i = 0; i < (COUNT ? COUNT : windows); i++) {
            int64_t from = at[i] + c;
            vfloat g = n == LANES ? load(dy + from) : load_part(dy + from, n);
            vint won = !code ? vint{} : n == LANES ? load_code(code + from) : load_code_part(code + from, n);
            if (AVERAGE) g /= splat(divide_by[i]);
            total += share<AVERAGE>(g, won, tap[i], code);
        }
        n == LANES ? store(dx + c, total) : store_part(dx + c, total, n);
    };
    int64_t c = 0;
    for (; c + LANES <= d.c; c += LANES) block(c, LANES);
    if (c < d.c) block(c, int(d.c - c));
}

// One input row of one image with channels last.
template <class T, bool AVERAGE>
void gather_row(const PoolPlan& d, const T* dy, const uint8_t* code, int64_t h, T* dx) {
    Cover rows = cover(h, d.kh, d.sh, d.ph, d.p);
    for (int64_t w = 0; w < d.w; w++, dx += d.c) {
        Cover columns = cover(w, d.kw, d.sw, d.pw, d.q);
        int64_t at[MAX_TAPS];
        int tap[MAX_TAPS], windows = 0;
        float divide_by[MAX_TAPS];
        for (int64_t p = rows.first; p < rows.last; p++)
            for (int64_t q = columns.first; q < columns.last; q++, windows++) {
                at[windows] = (p * d.q + q) * d.c;
                tap[windows] = int((h + d.ph - p * d.sh) * d.kw + w + d.pw - q * d.sw);
                if (AVERAGE)
                    divide_by[windows] = divisor(d, taps(p, d.sh, d.ph, d.kh, d.h), taps(q, d.sw, d.pw, d.kw, d.w));
            }
        if (windows == 1) add_windows<1, T, AVERAGE>(d, dy, code, at, tap, divide_by, 1, dx);
        else if (windows == 2) add_windows<2, T, AVERAGE>(d, dy, code, at, tap, divide_by, 2, dx);
        else if (windows == 4) add_windows<4, T, AVERAGE>(d, dy, code, at, tap, divide_by, 4, dx);
        else add_windows<0, T, AVERAGE>(d, dy, code, at, tap, divide_by, windows, dx);
    }
}

// The two input rows under output row p of an image with channels last, 2x2 windows with stride 2; the last output row
// also clears what lies below it.
template <class T, bool AVERAGE>
void pair_rows(const PoolPlan& d, const T* dy, const uint8_t* code, int64_t p, T* dx) {
    vfloat divide_by = splat(AVERAGE ? (d.divisor ? float(d.divisor) : 4.0f) : 1.0f);
    int64_t line = d.w * d.c;
    T* corner = dx + 2 * p * line;
    for (int64_t q = 0; q < d.q; q++)
        for (int64_t c = 0; c < d.c; c += LANES) {
            int n = rest(d.c, c);
            int64_t at = (p * d.q + q) * d.c + c;
            vfloat g = n == LANES ? load(dy + at) : load_part(dy + at, n);
            vint won = !code ? vint{} : n == LANES ? load_code(code + at) : load_code_part(code + at, n);
            if (AVERAGE) g /= divide_by;
            for (int t = 0; t < 4; t++) {
                T* to = corner + (t / 2) * line + (2 * q + t % 2) * d.c + c;
                vfloat part = share<AVERAGE>(g, won, t, code);
                n == LANES ? store(to, part) : store_part(to, part, n);
            }
        }
    for (int r = 0; r < 2; r++) clear(corner + r * line + 2 * d.q * d.c, (d.w - 2 * d.q) * d.c);
    if (p == d.p - 1) clear(corner + 2 * line, (d.h - 2 * d.p) * line);
}

template <class T, bool AVERAGE> int planes(const PoolPlan& d, const T* dy, const uint8_t* code, T* dx) {
    int64_t in = d.h * d.w, out = d.p * d.q;
    std::atomic<int> failed{0};
    parallel(d.n * d.c, chunks_for(d.threads, d.n * d.c), [&](int64_t, int64_t begin, int64_t end) {
        bool direct = std::is_same<T, float>::value, pair = is_pair(d);
        Memory scratch(nullptr, &free);
        if (!pair && !direct && !(scratch = allocate(in))) failed = -1;
        if (failed) return;
        for (int64_t i = begin; i < end; i++) {
            const uint8_t* won = code ? code + i * out : nullptr;
            if (pair) {
                pair_plane<T, AVERAGE>(d, dy + i * out, won, dx + i * in);
                continue;
            }
            float* sum = direct ? reinterpret_cast<float*>(dx + i * in) : scratch.get();
            clear(sum, in);
            scatter_plane<T, AVERAGE>(d, dy + i * out, won, sum);
            if (direct) continue;
            for (int64_t j = 0; j < in; j++) dx[i * in + j] = from_float<T>(sum[j]);
        }
    });
    return failed;
}

template <class T, bool AVERAGE> int images(const PoolPlan& d, const T* dy, const uint8_t* code, T* dx) {
    int64_t in = d.h * d.w * d.c, out = d.p * d.q * d.c, rows = is_pair(d) ? d.p : d.h;
    parallel(d.n * rows, chunks_for(d.threads, d.n * rows), [&](int64_t, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            int64_t image = i / rows, row = i % rows;
            const uint8_t* won = code ? code + image * out : nullptr;
            if (is_pair(d))
                pair_rows<T, AVERAGE>(d, dy + image * out, won, row, dx + image * in);
            else
                gather_row<T, AVERAGE>(d, dy + image * out, won, row, dx + image * in + row * d.w * d.c);
        }
    });
    return 0;
}

template <class T> int dispatch(const PoolPlan& d, const void* dy, const uint8_t* code, void* dx) {
    const T* from = static_cast<const T*>(dy);
    T* to = static_cast<T*>(dx);
    if (d.n * d.c * d.p * d.q == 0) return clear(to, d.n * d.c * d.h * d.w), 0;
    if (d.channels_last) return d.average ? images<T, true>(d, from, code, to) : images<T, false>(d, from, code, to);
    return d.average ? planes<T, true>(d, from, code, to) : planes<T, false>(d, from, code, to);
}

}  // namespace
}  // namespace ISA

// dx from dy and the codes of the forward pass (null: an average without relu). Returns -1 when memory runs out.
EXPORT(pool_backward)(const PoolPlan* plan, const void* dy, const uint8_t* code, void* dx) {
    return plan->bf16 ? ISA::dispatch<ISA::bfloat16>(*plan, dy, code, dx) : ISA::dispatch<float>(*plan, dy, code, dx);
}
