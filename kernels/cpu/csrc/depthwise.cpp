// Depthwise convolution (one filter per channel), n c h w, with bias and ReLU; and its weight gradient.
//
// 3x3 and 5x5 filters read the map itself (map.h) where the instruction set can mask loads. Else each plane is a band
// problem of one channel: vectors run along q, a tile of 4 rows x 2 vectors runs over the taps; in 3x3 and 5x5 filters a
// loaded vector serves every output row that reads it.
// The input gradient with stride 1 is the same forward pass over the output's gradient with the filter turned by 180
// degrees (kernels/cpu/conv_plan.py), so it needs no kernel.
#include <atomic>

#include "map.h"
#include "threads.h"

namespace ISA {
namespace {

constexpr int TAPS = 25;  // 5x5 at most; kernels/cpu/conv_plan.py asks for no more

struct Plane {
    const ConvPlan& d;
    const Band& band;
    int64_t offset[TAPS];
    int taps;

    Plane(const ConvPlan& plan, const Band& rows) : d(plan), band(rows), taps(int(plan.r * plan.s)) {
        for (int t = 0; t < taps; t++) offset[t] = band.tap(0, t / d.s, t % d.s);
    }
};

// Adds all taps to a tile whose upper left output is (row, q). SIZE, STRIDE: of a square undilated filter, known when
// compiled, so that an input vector is loaded once for all output rows that read it; 0: any filter.
template <int SIZE, int STRIDE, int ROWS, int VECTORS>
INLINE void add_taps(const Plane& o, const float* w, int64_t row, int64_t q, vfloat (&total)[ROWS][VECTORS]) {
    int64_t pitch = o.band.output_pitch();
    const float* corner = o.band.memory.get() + row * pitch + q;
    if (SIZE == 0) {
        for (int t = 0; t < o.taps; t++) {
            vfloat weight = splat(w[t]);
            for (int i = 0; i < ROWS; i++)
                for (int v = 0; v < VECTORS; v++)
                    total[i][v] += weight * load(corner + o.offset[t] + i * pitch + v * LANES);
        }
        return;
    }
    int64_t line = STRIDE ? pitch / STRIDE : 0;
#pragma GCC unroll 32
    for (int in = 0; in < (ROWS - 1) * STRIDE + SIZE; in++)
#pragma GCC unroll 8
        for (int s = 0; s < SIZE; s++)
            for (int v = 0; v < VECTORS; v++) {
                vfloat x = load(corner + in * line + o.offset[s] + v * LANES);
                keep(x);
#pragma GCC unroll 8
                for (int i = 0; i < ROWS; i++)
                    if (in >= i * STRIDE && in < i * STRIDE + SIZE)
                        total[i][v] += splat(w[(in - i * STRIDE) * SIZE + s]) * x;
            }
}

template <int SIZE, int STRIDE, int ROWS, int VECTORS, class T>
INLINE void tile(const Plane& o, const float* w, float bias, int64_t row, int64_t q, T* y) {
    vfloat total[ROWS][VECTORS];
    for (auto& line : total)
        for (auto& v : line) v = splat(bias);
    add_taps<SIZE, STRIDE>(o, w, row, q, total);
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < VECTORS; v++) {
            vfloat out = o.d.relu ? relu(total[i][v]) : total[i][v];
            int64_t at = q + v * LANES, left = o.d.q - at;
            if (left >= LANES)
                store(y + i * o.d.q + at, out);
            else if (left > 0)
                store_part(y + i * o.d.q + at, out, int(left));
        }
}

template <int SIZE, int STRIDE, int ROWS, class T>
INLINE void rows(const Plane& o, const float* w, float bias, int64_t row, T* y) {
    int64_t q = 0;
    for (; o.d.q - q > LANES; q += 2 * LANES) tile<SIZE, STRIDE, ROWS, 2>(o, w, bias, row, q, y);
    if (q < o.d.q) tile<SIZE, STRIDE, ROWS, 1>(o, w, bias, row, q, y);
}

// All columns of `count` output rows of a band.
template <int SIZE, int STRIDE, class T>
void band_rows(const Plane& o, const float* w, float bias, int64_t count, T* y) {
    int64_t row = 0;
    if (o.d.q <= LANES)  // one vector a row: more rows, so that additions do not wait for each other
        for (; row + 7 <= count; row += 7) tile<SIZE, STRIDE, 7, 1>(o, w, bias, row, 0, y + row * o.d.q);
    for (; row + 4 <= count; row += 4) rows<SIZE, STRIDE, 4>(o, w, bias, row, y + row * o.d.q);
    for (; row + 2 <= count; row += 2) rows<SIZE, STRIDE, 2>(o, w, bias, row, y + row * o.d.q);
    for (; row < count; row++) rows<SIZE, STRIDE, 1>(o, w, bias, row, y + row * o.d.q);
}

template <class T> using BandRows = void (*)(const Plane&, const float*, float, int64_t, T*);

template <class T> BandRows<T> band_rows_of(const ConvPlan& d) {
    if constexpr (!(MASKED_LOADS<T> && LANES == 16)) {  // else map_kernels takes every one of these
        bool square = d.r == d.s && d.sh == d.sw && d.dh == 1 && d.dw == 1 && d.sh <= 2;
        if (square && d.r == 3) return d.sh == 1 ? band_rows<3, 1, T> : band_rows<3, 2, T>;
        if (square && d.r == 5) return d.sh == 1 ? band_rows<5, 1, T> : band_rows<5, 2, T>;
    }
    return band_rows<0, 0, T>;
}

template <class T> int forward(const ConvPlan& d, const T* x, const T* w, const T* bias, T* y) {
    int64_t multiplier = d.k / d.c, taps = d.r * d.s;
    if (const MapKernels<T>* map = map_kernels<T>(d)) {
        parallel(d.n * d.k, chunks_for(d.threads, d.n * d.k),
                 [&](int64_t, int64_t begin, int64_t end) { map->forward(d, x, w, bias, y, begin, end); });
        return 0;
    }
    BandRows<T> compute = band_rows_of<T>(d);
    std::atomic<int> failed{0};
    parallel(d.n * d.k, chunks_for(d.threads, d.n * d.k), [&](int64_t, int64_t begin, int64_t end) {
        Band band(d, 1, false);
        if (!band.memory) {
            failed = -1;
            return;
        }
        Plane plane(d, band);
        for (int64_t i = begin; i < end; i++) {
            int64_t k = i % d.k, channel = i / d.k * d.c + k / multiplier;
            float filter[TAPS], b = bias ? to_float(bias[k]) : 0.0f;
            for (int64_t t = 0; t < taps; t++) filter[t] = to_float(w[k * taps + t]);
            for (int64_t first = 0; first < d.p; first += band.outputs) {
                band.pack(x + channel * d.h * d.w, first, 1);
                compute(plane, filter, b, smaller(band.outputs, d.p - first), y + (i * d.p + first) * d.q);
            }
        }
    });
    return failed;
}

// Adds one band's part of dw[t] = sum over pixels of dy * x at tap t, as vectors along q: COUNT taps at a time.
template <int COUNT, class T>
INLINE void correlate(const Plane& o, const T* dy, int64_t outputs, int first_tap, vfloat* dw) {
    vfloat total[COUNT];
    for (int t = 0; t < COUNT; t++) total[t] = dw[first_tap + t];
    for (int64_t row = 0; row < outputs; row++) {
        const float* line = o.band.memory.get() + row * o.band.output_pitch();
        for (int64_t q = 0; q < o.d.q; q += LANES) {
            int n = rest(o.d.q, q);
            vfloat g = n == LANES ? load(dy + row * o.d.q + q) : load_part(dy + row * o.d.q + q, n);
            for (int t = 0; t < COUNT; t++) {
                // Beyond the row g is zero, but the band may hold an infinity: 0 * inf is no zero.
                const float* x = line + o.offset[first_tap + t] + q;
                total[t] += g * (n == LANES ? load(x) : load_part(x, n));
            }
        }
    }
    for (int t = 0; t < COUNT; t++) dw[first_tap + t] = total[t];
}

template <class T> int weight_gradient(const ConvPlan& d, const T* dy, const T* x, float* dw) {
    int64_t multiplier = d.k / d.c, taps = d.r * d.s;
    // A filter has one thread, which adds its images in order: the sum repeats bit for bit.
    if (const MapKernels<T>* map = map_kernels<T>(d)) {
        parallel(d.k, chunks_for(d.threads, d.k),
                 [&](int64_t, int64_t begin, int64_t end) { map->weight_gradient(d, dy, x, dw, begin, end); });
        return 0;
    }
    std::atomic<int> failed{0};
    parallel(d.k, chunks_for(d.threads, d.k), [&](int64_t, int64_t begin, int64_t end) {
        Band band(d, 1, false);
        if (!band.memory) {
            failed = -1;
            return;
        }
        Plane plane(d, band);
        for (int64_t k = begin; k < end; k++) {
            vfloat total[TAPS] = {};
            for (int64_t n = 0; n < d.n; n++)
                for (int64_t first = 0; first < d.p; first += band.outputs) {
                    band.pack(x + (n * d.c + k / multiplier) * d.h * d.w, first, 1);
                    const T* g = dy + ((n * d.k + k) * d.p + first) * d.q;
                    int64_t outputs = smaller(band.outputs, d.p - first);
                    int t = 0;
                    for (; t + 9 <= plane.taps; t += 9) correlate<9>(plane, g, outputs, t, total);
                    for (; t < plane.taps; t++) correlate<1>(plane, g, outputs, t, total);
                }
            for (int64_t t = 0; t < taps; t++) dw[k * taps + t] = sum(total[t]);
        }
    });
    return failed;
}

// Of 3x3 and 5x5 filters with stride 2, one for each channel, where MASKED_LOADS.
template <class T> int input_gradient(const ConvPlan& d, const T* dy, const T* w, T* dx) {
    if constexpr (MASKED_LOADS<T>) {
        auto spread = d.r == 3 ? (d.pw % 2 ? spread_planes<3, 1, T> : spread_planes<3, 0, T>)
                               : (d.pw % 2 ? spread_planes<5, 1, T> : spread_planes<5, 0, T>);
        parallel(d.n * d.k, chunks_for(d.threads, d.n * d.k),
                 [&](int64_t, int64_t begin, int64_t end) { spread(d, dy, w, dx, begin, end); });
    }
    return 0;
}

}  // namespace
}  // namespace ISA

// y = conv(x, w) + bias (may be null), of plan->k filters over plan->c channels. -1 when memory runs out.
EXPORT(depthwise_forward)(const ConvPlan* plan, const void* x, const void* w, const void* bias, void* y) {
    using namespace ISA;
    return plan->bf16 ? forward(*plan, (const bfloat16*)x, (const bfloat16*)w, (const bfloat16*)bias, (bfloat16*)y)
                      : forward(*plan, (const float*)x, (const float*)w, (const float*)bias, (float*)y);
}

// dw, in float32 also for bfloat16 gradients.
EXPORT(depthwise_weight_gradient)(const ConvPlan* plan, const void* dy, const void* x, float* dw) {
    using namespace ISA;
    return plan->bf16 ? weight_gradient(*plan, (const bfloat16*)dy, (const bfloat16*)x, dw)
                      : weight_gradient(*plan, (const float*)dy, (const float*)x, dw);
}

// dx, where kernels/cpu/conv_plan.py: spreads.
EXPORT(depthwise_input_gradient)(const ConvPlan* plan, const void* dy, const void* w, void* dx) {
    using namespace ISA;
    return plan->bf16 ? input_gradient(*plan, (const bfloat16*)dy, (const bfloat16*)w, (bfloat16*)dx)
                      : input_gradient(*plan, (const float*)dy, (const float*)w, (float*)dx);
}
