// Max and average pooling, forward, of n c h w planes or n h w c images.
//
// Planes: vectors run along a row. A 2x2 window with stride 2 splits each pair of rows into even and odd columns in
// registers; any other window first copies a row into padded columns, split by (column mod stride), so that every tap
// of every window is one contiguous load. Images with channels last: vectors run along the channels.
#include "pool.h"

#include <atomic>
#include <cstdlib>
#include <memory>

#include "rows.h"

namespace ISA {
namespace {

template <class T, bool AVERAGE, bool CODE> void pair_plane(const PoolPlan& d, const T* x, T* y, uint8_t* code) {
    vfloat divide_by = splat(d.divisor ? float(d.divisor) : 4.0f);
    for (int64_t p = 0; p < d.p; p++, y += d.q, code += CODE ? d.q : 0) {
        const T* row[2] = {x + 2 * p * d.w, x + (2 * p + 1) * d.w};
        prefetch_ahead(row[0], 2 * d.w);
        for (int64_t q = 0; q < d.q; q += LANES) {
            int n = rest(d.q, q);
            Window<AVERAGE> out;
            for (int r = 0; r < 2; r++) {
                const T* from = row[r] + 2 * q;
                vfloat low, high;
                if (n == LANES) {
                    low = load(from), high = load(from + LANES);
                } else {
                    low = load_part(from, int(smaller(2 * n, LANES)));
                    high = 2 * n > LANES ? load_part(from + LANES, 2 * n - LANES) : vfloat{};
                }
                out.take(even(low, high), 2 * r, d.relu);
                out.take(odd(low, high), 2 * r + 1, d.relu);
            }
            out.finish(divide_by, d.relu);
            write(out, y + q, CODE ? code + q : nullptr, n);
        }
    }
}

// A ring of kh input rows as float32, padded, each as sw phases: input column u - pw lies at [u % sw][u / sw].
template <class T> struct Rows {
    const PoolPlan& d;
    int64_t pitch;
    std::unique_ptr<float[], decltype(&free)> memory;

    Rows(const PoolPlan& plan, float pad)
        : d(plan), pitch(ceil_div(larger(plan.w + 2 * plan.pw, (plan.q + 1) * plan.sw + plan.kw), plan.sw) + LANES),
          memory(static_cast<float*>(malloc(sizeof(float) * plan.kh * plan.sw * pitch)), &free) {
        if (memory)
            for (int64_t i = 0; i < plan.kh * plan.sw * pitch; i++) memory[i] = pad;
    }
    float* at(int64_t row) const { return memory.get() + (row % d.kh) * d.sw * pitch; }

    void pack(const T* from, int64_t row) { split_row(from, d.w, d.pw, d.sw, at(row), pitch); }
    const float* tap(int64_t row, int64_t s) const { return at(row) + (s % d.sw) * pitch + s / d.sw; }
};

// Per output column: what its average divides by, and its first tap inside the image (the index torch gives a window
// of nothing but -inf).
struct Columns {
    std::unique_ptr<float[], decltype(&free)> count;
    std::unique_ptr<uint8_t[], decltype(&free)> first;

    explicit Columns(const PoolPlan& d)
        : count(static_cast<float*>(malloc(sizeof(float) * (d.q + LANES))), &free),
          first(static_cast<uint8_t*>(malloc(d.q + LANES)), &free) {
        if (!count || !first) return;
        for (int64_t q = 0; q < d.q + LANES; q++) {
            Taps t = taps(smaller(q, d.q - 1), d.sw, d.pw, d.kw, d.w);
            count[q] = float(counted(t, d.pw, d.kw, d.w, d.include_pad));
            first[q] = uint8_t(t.first);
        }
    }
};

template <class T, bool AVERAGE, bool CODE>
void window_plane(const PoolPlan& d, Rows<T>& rows, const Columns& columns, const T* x, T* y, uint8_t* code) {
    int64_t packed = 0;
    for (int64_t p = 0; p < d.p; p++, y += d.q, code += CODE ? d.q : 0) {
        Taps r = taps(p, d.sh, d.ph, d.kh, d.h);
        for (packed = larger(packed, r.start + r.first); packed < r.start + r.last; packed++)
            rows.pack(x + packed * d.w, packed);
        vfloat row_count = splat(float(counted(r, d.ph, d.kh, d.h, d.include_pad)));
        const float* tap[MAX_TAPS];
        int first = int(r.first * d.kw), last = int(r.last * d.kw);
        for (int t = first; t < last; t++) tap[t] = rows.tap(r.start + t / d.kw, t % d.kw);
        for (int64_t q = 0; q < d.q; q += LANES) {
            Window<AVERAGE> out;
            if (CODE && !AVERAGE) out.code = load_code(columns.first.get() + q) + first;
            for (int t = first; t < last; t++) out.take(load(tap[t] + q), t, d.relu);
            out.finish(d.divisor ? splat(float(d.divisor)) : row_count * load(columns.count.get() + q), d.relu);
            write(out, y + q, CODE ? code + q : nullptr, rest(d.q, q));
        }
    }
}

// One output row of an image with channels last.
template <class T, bool AVERAGE, bool CODE>
void channels_row(const PoolPlan& d, const T* x, int64_t p, T* y, uint8_t* code) {
    Taps r = taps(p, d.sh, d.ph, d.kh, d.h);
    for (int64_t q = 0; q < d.q; q++, y += d.c, code += CODE ? d.c : 0) {
        Taps s = taps(q, d.sw, d.pw, d.kw, d.w);
        const T* corner = x + (r.start * d.w + s.start) * d.c;
        for (int64_t i = larger(r.first, r.last - d.sh); i < r.last; i++)  // the rows that no window above has read
            prefetch_ahead(corner + i * d.w * d.c, d.sw * d.c);
        vfloat divide_by = splat(divisor(d, r, s));
        for (int64_t c = 0; c < d.c; c += LANES) {
            int n = rest(d.c, c);
            Window<AVERAGE> out;
            if (CODE && !AVERAGE) out.code = splat_int(int32_t(r.first * d.kw + s.first));
            for (int64_t i = r.first; i < r.last; i++)
                for (int64_t j = s.first; j < s.last; j++) {
                    const T* from = corner + (i * d.w + j) * d.c + c;
                    out.take(n == LANES ? load(from) : load_part(from, n), int(i * d.kw + j), d.relu);
                }
            out.finish(divide_by, d.relu);
            write(out, y + c, CODE ? code + c : nullptr, n);
        }
    }
}

template <class T, bool AVERAGE, bool CODE> int forward(const PoolPlan& d, const T* x, T* y, uint8_t* code) {
    if (d.n * d.c * d.p * d.q == 0) return 0;
    int64_t in = d.h * d.w, out = d.p * d.q;
    if (d.channels_last) {
        parallel(d.n * d.p, chunks_for(d.threads, d.n * d.p), [&](int64_t, int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++)
                channels_row<T, AVERAGE, CODE>(d, x + i / d.p * in * d.c, i % d.p, y + i * d.q * d.c,
                                               CODE ? code + i * d.q * d.c : nullptr);
        });
        return 0;
    }
    std::atomic<int> failed{0};
    parallel(d.n * d.c, chunks_for(d.threads, d.n * d.c), [&](int64_t, int64_t begin, int64_t end) {
        if (is_pair(d)) {
            for (int64_t i = begin; i < end; i++)
                pair_plane<T, AVERAGE, CODE>(d, x + i * in, y + i * out, CODE ? code + i * out : nullptr);
            return;
        }
        Rows<T> rows(d, AVERAGE ? 0.0f : -__builtin_inff());
        Columns columns(d);
        if (!rows.memory || !columns.count || !columns.first) {
            failed = -1;
            return;
        }
        for (int64_t i = begin; i < end; i++)
            window_plane<T, AVERAGE, CODE>(d, rows, columns, x + i * in, y + i * out, CODE ? code + i * out : nullptr);
    });
    return failed;
}

template <class T> int dispatch(const PoolPlan& d, const void* x, void* y, uint8_t* code) {
    const T* from = static_cast<const T*>(x);
    T* to = static_cast<T*>(y);
    if (d.average) return code ? forward<T, true, true>(d, from, to, code) : forward<T, true, false>(d, from, to, code);
    return code ? forward<T, false, true>(d, from, to, code) : forward<T, false, false>(d, from, to, code);
}

}  // namespace
}  // namespace ISA

// y = pool(x) or pool(relu(x)); `code` may be null. Returns -1 when memory runs out.
EXPORT(pool_forward)(const PoolPlan* plan, const void* x, void* y, uint8_t* code) {
    return plan->bf16 ? ISA::dispatch<ISA::bfloat16>(*plan, x, y, code) : ISA::dispatch<float>(*plan, x, y, code);
}
