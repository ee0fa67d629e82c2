// Depthwise filters of 3x3 and 5x5 straight from the map: what lies outside is masked off as it is loaded, so no rows
// are laid out in a band. For instruction sets that load some of a vector's lanes: AVX-512, AVX2 in float32.
//
// A tile of ROWS rows x 1 vector keeps its sums in registers; an input vector is loaded once for all rows that read it.
#pragma once

#include "band.h"

namespace ISA {

#if defined(__AVX512F__)
typedef __mmask16 vmask;
template <class T> constexpr bool MASKED_LOADS = true;

INLINE vmask first_lanes(int64_t n) { return lanes(int(larger(smaller(n, LANES), 0))); }
// Lanes i with 0 <= from + i < end.
INLINE vmask between(int64_t from, int64_t end) { return vmask(first_lanes(end - from) & ~first_lanes(-from)); }
INLINE vfloat load_lanes(const float* p, vmask m) { return (vfloat)_mm512_maskz_loadu_ps(m, p); }
INLINE vfloat load_lanes(const bfloat16* p, vmask m) { return widen((vshort)_mm256_maskz_loadu_epi16(m, p)); }
#else
template <class T> constexpr bool MASKED_LOADS = false;
#if defined(__AVX2__)
typedef __m256i vmask;
template <> constexpr bool MASKED_LOADS<float> = true;

INLINE vmask between(int64_t from, int64_t end) {
    from = larger(from, -LANES), end = smaller(end, from + LANES);
    __m256i at = _mm256_add_epi32(_mm256_set1_epi32(int(from)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    return _mm256_andnot_si256(_mm256_srai_epi32(at, 31), _mm256_cmpgt_epi32(_mm256_set1_epi32(int(end)), at));
}
INLINE vfloat load_lanes(const float* p, vmask m) { return (vfloat)_mm256_maskload_ps(p, m); }
#else
typedef int vmask;
INLINE vmask between(int64_t, int64_t) { return 0; }
#endif
// Compiled, and never called: MASKED_LOADS is false.
template <class T> INLINE vfloat load_lanes(const T*, vmask) { return vfloat{}; }
#endif

// What a row of the map gives the output columns q .. q + LANES: SIZE vectors, one for each tap of a filter's row.
// HALF: with stride 2 all that a tap reads of a row fits one vector.
template <int SIZE, int STRIDE, bool HALF> struct Columns {
    static constexpr int LOADS = STRIDE == 1 ? SIZE : (SIZE + 1) / 2;
    int64_t q, left;  // left: input column of the first tap of column q
    int count;        // of columns
    vmask low[LOADS], high[LOADS];

    Columns(const ConvPlan& d, int64_t first) : q(first), left(q * STRIDE - d.pw), count(rest(d.q, q)) {
        for (int i = 0; i < LOADS; i++) {
            // Ends with the last column that is asked for: the lanes beyond are zero, whatever the map holds there.
            int64_t from = left + i * STRIDE, end = smaller(d.w, from + STRIDE * count);
            low[i] = between(from, end);
            if (STRIDE == 2 && !HALF) high[i] = between(from + LANES, end);
        }
    }

    // x[s] for the taps `from` <= s < `to` of an input row; with stride 2 `from` is even.
    template <class T> INLINE void load(const T* row, int from, int to, vfloat (&x)[SIZE + 1]) const {
#pragma GCC unroll 8
        for (int s = from; s < to; s += STRIDE) {
            vfloat a = load_lanes(row + left + s, low[s / STRIDE]);
            x[s] = a;
            if (STRIDE == 1) continue;
            vfloat b = HALF ? vfloat{} : load_lanes(row + left + s + LANES, high[s / STRIDE]);
            x[s] = even(a, b);
            x[s + 1] = odd(a, b);
        }
    }
};

// Calls use(i, r, s, x) for each output row i of a tile and each tap (r, s) with FROM <= s < TO; x are the inputs that
// the tap multiplies there. Rows outside the map are left out.
template <int FROM, int TO, int ROWS, int SIZE, int STRIDE, bool HALF, class T, class Use>
INLINE void meet(const ConvPlan& d, const Columns<SIZE, STRIDE, HALF>& columns, const T* x, int64_t row, Use&& use) {
    int64_t top = row * STRIDE - d.ph, pitch = d.w;
    const T* from = x + top * pitch;
#pragma GCC unroll 32
    for (int in = 0; in < (ROWS - 1) * STRIDE + SIZE; in++, from += pitch) {
        if (uint64_t(top + in) >= uint64_t(d.h)) continue;
        vfloat v[SIZE + 1];
        columns.load(from, FROM, TO, v);
#pragma GCC unroll 8
        for (int s = FROM; s < TO; s++)
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++)
                if (in >= i * STRIDE && in < i * STRIDE + SIZE) use(i, in - i * STRIDE, s, v[s]);
    }
}

// The end of the taps s that begin at `from` and run together: as many as there are registers for.
template <int SIZE, int STRIDE> constexpr int last_tap(int from) {
    int end = from + (SIZE == 3 && LANES == 16 ? SIZE : STRIDE);
    return end < SIZE ? end : SIZE;
}

// Adds the taps FROM <= s and those behind them to a tile's sums.
template <int FROM, int ROWS, int SIZE, int STRIDE, bool HALF, class T>
INLINE void add_columns(const ConvPlan& d, const Columns<SIZE, STRIDE, HALF>& columns, const T* x, const T* w,
                        int64_t row, vfloat (&total)[ROWS]) {
    constexpr int TO = last_tap<SIZE, STRIDE>(FROM);
    vfloat weight[SIZE][TO - FROM];
    for (int r = 0; r < SIZE; r++)
        for (int s = FROM; s < TO; s++) {
            weight[r][s - FROM] = splat(to_float(w[r * SIZE + s]));
            keep(weight[r][s - FROM]);
        }
    meet<FROM, TO, ROWS>(d, columns, x, row,
                         [&](int i, int r, int s, vfloat v) INLINE_LAMBDA { total[i] += weight[r][s - FROM] * v; });
    if constexpr (TO < SIZE) add_columns<TO>(d, columns, x, w, row, total);
}

template <int ROWS, int SIZE, int STRIDE, bool HALF, class T>
INLINE void map_tile(const ConvPlan& d, const Columns<SIZE, STRIDE, HALF>& columns, const T* x, const T* w, float bias,
                     int64_t row, T* y) {
    vfloat total[ROWS];
    for (auto& v : total) v = splat(bias);
    add_columns<0>(d, columns, x, w, row, total);
    if (d.relu)
        for (auto& v : total) v = relu(v);
    int64_t pitch = d.q;
    T* to = y + row * pitch + columns.q;
    if (columns.count == LANES)
        for (int i = 0; i < ROWS; i++) store(to + i * pitch, total[i]);
    else
        for (int i = 0; i < ROWS; i++) store_part(to + i * pitch, total[i], columns.count);
}

constexpr int64_t BAND_ROWS = 28;  // a strip's input stays in the first-level cache for the strip beside it

// Calls tile(ROWS, columns, row) for tiles that cover one plane: bands of strips of one vector, `first` of them known.
template <int SIZE, int STRIDE, bool HALF, class T, class Tile>
INLINE void tiles(const ConvPlan& d, const Columns<SIZE, STRIDE, HALF>& first, const T* x, Tile&& tile) {
    for (int64_t top = 0; top < d.p; top += BAND_ROWS) {
        int64_t end = smaller(top + BAND_ROWS, d.p);
        prefetch_ahead(x + top * STRIDE * d.w, (end - top) * STRIDE * d.w);
        for (int64_t q = 0; q < d.q; q += LANES) {
            const Columns<SIZE, STRIDE, HALF> columns = q ? Columns<SIZE, STRIDE, HALF>(d, q) : first;
            int64_t row = top;
            for (; row + 7 <= end; row += 7) tile(std::integral_constant<int, 7>{}, columns, row);
            for (; row + 2 <= end; row += 2) tile(std::integral_constant<int, 2>{}, columns, row);
            for (; row < end; row++) tile(std::integral_constant<int, 1>{}, columns, row);
        }
    }
}

template <int SIZE, int STRIDE, bool HALF, class T>
void map_plane(const ConvPlan& d, const Columns<SIZE, STRIDE, HALF>& first, const T* x, const T* w, float bias, T* y) {
    tiles(d, first, x, [&](auto rows, const auto& columns, int64_t row) INLINE_LAMBDA {
        map_tile<decltype(rows)::value>(d, columns, x, w, bias, row, y);
    });
}

// The planes begin .. end of the output.
template <int SIZE, int STRIDE, bool HALF, class T>
void map_planes(const ConvPlan& d, const T* x, const T* w, const T* bias, T* y, int64_t begin, int64_t end) {
    const Columns<SIZE, STRIDE, HALF> first(d, 0);
    int64_t multiplier = d.k / d.c, image = begin / d.k, k = begin % d.k;
    for (int64_t i = begin; i < end; i++) {
        int64_t channel = image * d.c + (multiplier == 1 ? k : k / multiplier);
        map_plane(d, first, x + channel * d.h * d.w, w + k * SIZE * SIZE, bias ? to_float(bias[k]) : 0.0f,
                                      y + i * d.p * d.q);
        if (++k == d.k) k = 0, image++;
    }
}

// Adds a tile's part of dw, the taps FROM <= s and those behind them: dw[r][s] += dy * what the tap multiplied.
template <int FROM, int ROWS, int SIZE, int STRIDE, bool HALF, class T>
INLINE void correlate_columns(const ConvPlan& d, const Columns<SIZE, STRIDE, HALF>& columns, const T* x, int64_t row,
                              const vfloat (&g)[ROWS], vfloat (&dw)[SIZE][SIZE]) {
    constexpr int TO = last_tap<SIZE, STRIDE>(FROM);
    vfloat total[SIZE][TO - FROM];
    for (int r = 0; r < SIZE; r++)
        for (int s = FROM; s < TO; s++) total[r][s - FROM] = dw[r][s];
    meet<FROM, TO, ROWS>(d, columns, x, row,
                         [&](int i, int r, int s, vfloat v) INLINE_LAMBDA { total[r][s - FROM] += g[i] * v; });
    for (int r = 0; r < SIZE; r++)
        for (int s = FROM; s < TO; s++) dw[r][s] = total[r][s - FROM];
    if constexpr (TO < SIZE) correlate_columns<TO>(d, columns, x, row, g, dw);
}

template <int SIZE, int STRIDE, bool HALF, class T>
void correlate_plane(const ConvPlan& d, const Columns<SIZE, STRIDE, HALF>& first, const T* x, const T* dy,
                     vfloat (&dw)[SIZE][SIZE]) {
    tiles(d, first, x, [&](auto rows, const auto& columns, int64_t row) INLINE_LAMBDA {
        constexpr int ROWS = decltype(rows)::value;
        const T* from = dy + row * d.q + columns.q;
        vfloat g[ROWS];
        for (int i = 0; i < ROWS; i++) g[i] = load_part(from + i * d.q, columns.count);
        correlate_columns<0>(d, columns, x, row, g, dw);
    });
}

// The weight gradient of the filters begin .. end: each adds its images in order.
template <int SIZE, int STRIDE, bool HALF, class T>
void map_filters(const ConvPlan& d, const T* dy, const T* x, float* to, int64_t begin, int64_t end) {
    const Columns<SIZE, STRIDE, HALF> first(d, 0);
    int64_t multiplier = d.k / d.c;
    for (int64_t k = begin; k < end; k++) {
        vfloat dw[SIZE][SIZE] = {};
        for (int64_t n = 0; n < d.n; n++)
            correlate_plane(d, first, x + (n * d.c + k / multiplier) * d.h * d.w, dy + (n * d.k + k) * d.p * d.q, dw);
        for (int r = 0; r < SIZE; r++)
            for (int s = 0; s < SIZE; s++) to[(k * SIZE + r) * SIZE + s] = sum(dw[r][s]);
    }
}

// A strip of the input gradient with stride 2, two vectors from column 2 q on: even and odd columns of dx come from the
// taps of one parity each, and a tap reads neighbouring columns of dy. ODD: the padding's parity.
template <int SIZE, int ODD, class T>
INLINE void spread_strip(const ConvPlan& d, const T* dy, const T* w, T* dx, int64_t q) {
    int64_t first = q + (d.pw + ODD) / 2, count = d.w - 2 * q;
    vmask inside[SIZE];
    for (int s = 0; s < SIZE; s++) inside[s] = between(first - (s + ODD) / 2, d.q);
    for (int64_t h = 0; h < d.h; h++) {
        vfloat total[2] = {};
        for (int64_t r = (h + d.ph) % 2; r < SIZE; r += 2) {
            int64_t p = (h + d.ph - r) / 2;
            if (h + d.ph < r || p >= d.p) continue;
            const T* row = dy + p * d.q + first;
#pragma GCC unroll 8
            for (int s = 0; s < SIZE; s++)
                total[(s + ODD) % 2] +=
                    splat(to_float(w[r * SIZE + s])) * load_lanes(row - (s + ODD) / 2, inside[s]);
        }
        T* to = dx + h * d.w + 2 * q;
        vfloat low = zip_low(total[0], total[1]), high = zip_high(total[0], total[1]);
        if (count >= 2 * LANES) {
            store(to, low), store(to + LANES, high);
            continue;
        }
        store_part(to, low, int(smaller(count, LANES)));
        if (count > LANES) store_part(to + LANES, high, int(count - LANES));
    }
}

// The input gradient's planes begin .. end.
template <int SIZE, int ODD, class T>
void spread_planes(const ConvPlan& d, const T* dy, const T* w, T* dx, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        const T *from = dy + i * d.p * d.q, *filter = w + i % d.k * SIZE * SIZE;
        T* to = dx + i * d.h * d.w;
        prefetch_ahead(from, d.p * d.q);
        for (int64_t q = 0; 2 * q < d.w; q += LANES) spread_strip<SIZE, ODD>(d, from, filter, to, q);
    }
}

template <class T> struct MapKernels {
    void (*forward)(const ConvPlan&, const T* x, const T* w, const T* bias, T* y, int64_t begin, int64_t end);
    void (*weight_gradient)(const ConvPlan&, const T* dy, const T* x, float* dw, int64_t begin, int64_t end);
};

template <int SIZE, int STRIDE, bool HALF, class T>
constexpr MapKernels<T> MAP_KERNELS = {map_planes<SIZE, STRIDE, HALF, T>, map_filters<SIZE, STRIDE, HALF, T>};

// Null for the convolutions that need a band.
template <class T> const MapKernels<T>* map_kernels(const ConvPlan& d) {
    bool square = d.r == d.s && d.sh == d.sw && d.dh == 1 && d.dw == 1, half = 2 * d.q <= LANES;
    if (!MASKED_LOADS<T> || !square) return nullptr;
    // Strided wide rows cost more to pick apart in narrow vectors, for each tile anew, than to lay out once.
    if (LANES == 8 && d.sh == 2 && d.q > 32) return nullptr;
    if (d.r == 3 && d.sh == 1) return &MAP_KERNELS<3, 1, false, T>;
    if (d.r == 5 && d.sh == 1) return &MAP_KERNELS<5, 1, false, T>;
    if (d.r == 3 && d.sh == 2) return half ? &MAP_KERNELS<3, 2, true, T> : &MAP_KERNELS<3, 2, false, T>;
    if (d.r == 5 && d.sh == 2) return half ? &MAP_KERNELS<5, 2, true, T> : &MAP_KERNELS<5, 2, false, T>;
    return nullptr;
}

}  // namespace ISA
