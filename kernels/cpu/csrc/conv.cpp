// Direct convolution of few input channels, n c h w, with bias, ReLU and a 2x2 pool in registers.
//
//     y[k, p, q] = pool(relu(bias[k] + sum over taps t = (c, r, s) of w[k, t] * x[t at p, q]))
//
// Vectors run along q. A tile of FILTERS filters x 2 rows x 1 or 2 vectors lives in registers and runs over the taps:
// a tap costs one load per vector and one broadcast per filter. Neither sums nor pool see memory.
#include <atomic>

#include "band.h"
#include "pool.h"

namespace ISA {
namespace {

// A tile's sums take 24 of 32 registers, or 12 of 16; AVX2 runs twice as fast with one vector, which leaves a register
// for the broadcast, but two vectors pool to a whole one.
constexpr bool SLIM = LANES == 8;
template <int POOL> constexpr int WIDEST = SLIM && POOL == 0 ? 1 : 2;
template <int POOL> constexpr int FILTERS = LANES == 16 || WIDEST<POOL> == 1 ? 6 : 3;
// Unrolled, 16 registers would spill in the loop over the taps: 0.7x.
constexpr int POOL_UNROLL = LANES == 16 ? 8 : 1;

struct Problem {
    const ConvPlan& d;
    const Band& band;
    const int64_t* offset;  // of each tap in the band
    int64_t taps;
};

// One tile: filters k .. k + KB, the output rows from band row `row`, columns from q; `w` is [tap][KB].
template <int KB, int ROWS, int VECTORS>
INLINE void convolve(const Problem& o, const float* w, const float* bias, int64_t row, int64_t q,
                     vfloat (&total)[KB][ROWS][VECTORS]) {
    for (int k = 0; k < KB; k++)
        for (int i = 0; i < ROWS; i++)
            for (int v = 0; v < VECTORS; v++) total[k][i][v] = splat(bias[k]);
    int64_t line = o.band.output_pitch();
    const float* corner = o.band.memory.get() + row * line + q;
    for (int64_t t = 0; t < o.taps; t++, w += KB) {
        const float* from = corner + o.offset[t];
        vfloat x[ROWS][VECTORS];
        for (int i = 0; i < ROWS; i++)
            for (int v = 0; v < VECTORS; v++) x[i][v] = load(from + i * line + v * LANES);
        for (int k = 0; k < KB; k++)
            for (int i = 0; i < ROWS; i++)
                for (int v = 0; v < VECTORS; v++) total[k][i][v] += splat(w[k]) * x[i][v];
    }
}

// Stores one tile that is not pooled, straight from its registers: `count` columns of each row.
template <bool ALL, class T, int KB, int ROWS, int VECTORS>
INLINE void write_tile(const ConvPlan& d, T* y, int64_t count, const vfloat (&total)[KB][ROWS][VECTORS]) {
    int64_t pitch = d.q, plane = d.p * d.q;
    bool with_relu = d.relu;
#pragma GCC unroll 8
    for (int k = 0; k < KB; k++, y += plane) {
        T* to = y;
#pragma GCC unroll 2
        for (int i = 0; i < ROWS; i++, to += pitch) {
            keep(to);
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) {
                vfloat out = with_relu ? relu(total[k][i][v]) : total[k][i][v];
                int64_t left = count - v * LANES;
                if (ALL || left >= LANES)
                    store(to + v * LANES, out);
                else if (left > 0)
                    store_part(to + v * LANES, out, int(left));
            }
        }
        keep(y);
    }
}

// Writes one tile, pooled or not.
template <class T, int POOL, int KB, int ROWS, int VECTORS>
INLINE void tile(const Problem& o, const float* w, const float* bias, int64_t k, int64_t first, int64_t row, int64_t q,
                 T* y, uint8_t* code) {
    const ConvPlan& d = o.d;
    vfloat total[KB][ROWS][VECTORS];
    convolve<KB, ROWS, VECTORS>(o, w, bias, row, q, total);
    if (POOL == 0) {
        T* to = y + (k * d.p + first + row) * d.q + q;
        int64_t count = d.q - q;
        count >= VECTORS * LANES ? write_tile<true>(d, to, count, total) : write_tile<false>(d, to, count, total);
        return;
    }
#pragma GCC unroll POOL_UNROLL
    for (int i = 0; i < KB; i++) {
        Window<POOL == 2> out;
#pragma GCC unroll 2
        for (int r = 0; r < ROWS; r++) {
            vfloat left = total[i][r][0], right = VECTORS == 2 ? total[i][r][VECTORS - 1] : vfloat{};
            out.take(even(left, right), 2 * r, d.relu);
            out.take(odd(left, right), 2 * r + 1, d.relu);
        }
        out.finish(splat(4.0f), d.relu);
        int64_t at = ((k + i) * d.po + (first + row) / 2) * d.qo + q / 2;
        write(out, y + at, code ? code + at : nullptr, int(smaller(d.qo - q / 2, VECTORS * LANES / 2)));
    }
}

// All columns of ROWS output rows for KB filters.
template <class T, int POOL, int KB, int ROWS>
void rows(const Problem& o, const float* w, const float* bias, int64_t k, int64_t first, int64_t row, T* y,
          uint8_t* code) {
    int64_t columns = POOL ? 2 * o.d.qo : o.d.q, q = 0;
    if (WIDEST<POOL> == 2)
        for (; columns - q > LANES; q += 2 * LANES) tile<T, POOL, KB, ROWS, 2>(o, w, bias, k, first, row, q, y, code);
    for (; q < columns; q += LANES) tile<T, POOL, KB, ROWS, 1>(o, w, bias, k, first, row, q, y, code);
}

template <class T, int POOL, int KB>
void filters(const Problem& o, const float* w, const float* bias, int64_t k, int64_t first, T* y, uint8_t* code) {
    int64_t last = smaller(o.band.outputs, (POOL ? 2 * o.d.po : o.d.p) - first), row = 0;
    for (; row + 2 <= last; row += 2) rows<T, POOL, KB, 2>(o, w, bias, k, first, row, y, code);
    if (!POOL && row < last) rows<T, POOL, KB, 1>(o, w, bias, k, first, row, y, code);
}

// Filters in blocks: as many as FILTERS, then what is left; the sizes in which `pack_filters` lays them out.
template <int POOL> INLINE int64_t block(int64_t k, int64_t total) {
    int64_t left = total - k;
    return left >= FILTERS<POOL> ? FILTERS<POOL> : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

template <class T, int POOL>
void band_of_image(const Problem& o, const float* w, const float* bias, int64_t first, T* y, uint8_t* code) {
    for (int64_t k = 0; k < o.d.k; k += block<POOL>(k, o.d.k)) {
        const float* from = w + k * o.taps;
        switch (block<POOL>(k, o.d.k)) {
            case FILTERS<POOL>: filters<T, POOL, FILTERS<POOL>>(o, from, bias + k, k, first, y, code); break;
            case 4: filters<T, POOL, 4>(o, from, bias + k, k, first, y, code); break;
            case 2: filters<T, POOL, 2>(o, from, bias + k, k, first, y, code); break;
            default: filters<T, POOL, 1>(o, from, bias + k, k, first, y, code);
        }
    }
}

// [k][tap] -> blocks of [tap][filters of the block], and the bias (0 where there is none), as float32.
template <int POOL, class T> void pack_filters(const ConvPlan& d, const T* w, const T* bias, float* to, float* to_bias) {
    int64_t taps = d.c * d.r * d.s;
    for (int64_t k = 0; k < d.k; k++) to_bias[k] = bias ? to_float(bias[k]) : 0.0f;
    for (int64_t k = 0; k < d.k; k += block<POOL>(k, d.k))
        for (int64_t t = 0; t < taps; t++)
            for (int64_t i = 0; i < block<POOL>(k, d.k); i++) *to++ = to_float(w[(k + i) * taps + t]);
}

template <class T, int POOL>
int forward(const ConvPlan& d, const T* x, const T* w, const T* bias, T* y, uint8_t* code) {
    int64_t taps = d.c * d.r * d.s, in = d.c * d.h * d.w, out = d.k * (POOL ? d.po * d.qo : d.p * d.q);
    int64_t wanted = POOL ? 2 * d.po : d.p;
    if (d.n * out == 0) return 0;
    Memory packed = allocate(d.k * (taps + 1));
    if (!packed) return -1;
    float* packed_bias = packed.get() + d.k * taps;
    pack_filters<POOL>(d, w, bias, packed.get(), packed_bias);
    int64_t step = Band(d, d.c, true).outputs, bands = ceil_div(wanted, step);
    std::atomic<int> failed{0};
    parallel(d.n * bands, chunks_for(d.threads, d.n * bands), [&](int64_t, int64_t begin, int64_t end) {
        Band band(d, d.c, true);
        std::unique_ptr<int64_t[], decltype(&free)> offset(static_cast<int64_t*>(malloc(taps * sizeof(int64_t))),
                                                           &free);
        if (!band.memory || !offset) {
            failed = -1;
            return;
        }
        for (int64_t t = 0; t < taps; t++) offset[t] = band.tap(t / (d.r * d.s), t / d.s % d.r, t % d.s);
        Problem problem{d, band, offset.get(), taps};
        for (int64_t i = begin; i < end; i++) {
            int64_t image = i / bands, first = i % bands * step;
            band.pack(x + image * in, first, d.c);
            band_of_image<T, POOL>(problem, packed.get(), packed_bias, first, y + image * out,
                                   code ? code + image * out : nullptr);
        }
    });
    return failed;
}

template <class T>
int dispatch(const ConvPlan& d, const void* x, const void* w, const void* b, void* y, uint8_t* code) {
    auto run = d.pool == 0 ? forward<T, 0> : d.pool == 1 ? forward<T, 1> : forward<T, 2>;
    return run(d, static_cast<const T*>(x), static_cast<const T*>(w), static_cast<const T*>(b), static_cast<T*>(y),
               code);
}

}  // namespace
}  // namespace ISA

// y and, where `code` is given, the codes of the pool (pool.h). Returns -1 when memory runs out.
EXPORT(conv_forward)(const ConvPlan* plan, const void* x, const void* w, const void* bias, void* y, uint8_t* code) {
    return plan->bf16 ? ISA::dispatch<ISA::bfloat16>(*plan, x, w, bias, y, code)
                      : ISA::dispatch<float>(*plan, x, w, bias, y, code);
}
