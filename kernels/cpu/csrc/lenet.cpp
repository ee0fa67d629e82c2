// The whole LeNet-5 forward: one image's convolutions at a time in the first-level cache, dense layers in blocks.
//
// First convolution: vectors along a row, 2 rows x all columns x FILTERS filters in registers. Second: vectors along
// the 16 filters, whose pixels are broadcast, so that no lane is idle on a 10 pixel row. Pools never see memory.
#include "lenet.h"

#include <atomic>

namespace ISA {
namespace {

struct Packed {  // convolution weights as float32: [tap][filter]
    float w1[TAPS5][K1], b1[K1];
    float w2[K1 * TAPS5][K2], b2[K2];
};

template <class T> void pack(const LeNetParameters& from, Packed& to) {
    const T *w1 = static_cast<const T*>(from.w1), *b1 = static_cast<const T*>(from.b1);
    const T *w2 = static_cast<const T*>(from.w2), *b2 = static_cast<const T*>(from.b2);
    for (int k = 0; k < K1; k++) {
        to.b1[k] = to_float(b1[k]);
        for (int t = 0; t < TAPS5; t++) to.w1[t][k] = to_float(w1[k * TAPS5 + t]);
    }
    for (int k = 0; k < K2; k++) to.b2[k] = to_float(b2[k]);
    for (int t = 0; t < K1 * TAPS5; t++)
        for (int k = 0; k < K2; k++) to.w2[t][k] = to_float(w2[k * K1 * TAPS5 + t]);
}

// Pooled row i of filters k .. k + KB from column q of the frame: 2 rows x 2 vectors of the convolution.
template <int KB, bool AVERAGE>
INLINE void first_tile(const float* frame, const Packed& w, int k, int i, int q, float* a1, uint8_t* code) {
    vfloat total[KB][2][2];
    for (int o = 0; o < KB; o++)
        for (int r = 0; r < 2; r++) total[o][r][0] = total[o][r][1] = splat(w.b1[k + o]);
    for (int t = 0; t < TAPS5; t++) {
        const float* from = frame + (2 * i + t / 5) * PITCH + q + t % 5;
        vfloat x[2][2] = {{load(from), load(from + LANES)}, {load(from + PITCH), load(from + PITCH + LANES)}};
        for (int o = 0; o < KB; o++) {
            vfloat weight = splat(w.w1[t][k + o]);
            for (int r = 0; r < 2; r++)
                for (int v = 0; v < 2; v++) total[o][r][v] += weight * x[r][v];
        }
    }
    for (int o = 0; o < KB; o++) {
        Window<AVERAGE> out;
        for (int r = 0; r < 2; r++) {
            out.take(even(total[o][r][0], total[o][r][1]), 2 * r, true);
            out.take(odd(total[o][r][0], total[o][r][1]), 2 * r + 1, true);
        }
        out.finish(splat(4.0f), true);
        int at = ((k + o) * P1 + i) * P1 + q / 2;
        write(out, a1 + at, code ? code + at : nullptr, int(smaller(P1 - q / 2, LANES)));
    }
}

template <bool AVERAGE> void first_layer(const float* frame, const Packed& w, float* a1, uint8_t* code) {
    constexpr int KB = LANES == 16 ? 6 : 3;
    for (int i = 0; i < P1; i++)
        for (int q = 0; q < 2 * P1; q += 2 * LANES)
            for (int k = 0; k < K1; k += KB) first_tile<KB, AVERAGE>(frame, w, k, i, q, a1, code);
}

// Tap row r of one channel for the upper row of a pooled pixel and tap row r - 1 for the lower, which read the same
// input: every broadcast pixel serves both.
template <int COLUMNS, bool UPPER, bool LOWER>
INLINE void second_taps(const float* from, const float* weights, vfloat (&total)[2][COLUMNS]) {
    for (int s = 0; s < 5; s++, weights += K2) {
        vfloat upper = UPPER ? load(weights) : vfloat{}, lower = LOWER ? load(weights - 5 * K2) : vfloat{};
        for (int x = 0; x < COLUMNS; x++) {
            vfloat pixel = splat(from[x + s]);
            if (UPPER) total[0][x] += pixel * upper;
            if (LOWER) total[1][x] += pixel * lower;
        }
    }
}

// COLUMNS / 2 pooled pixels (i, j) .. of LANES filters from k.
template <int COLUMNS, bool AVERAGE>
INLINE void second_tile(const float* a1, const Packed& w, int i, int j, int k, float* a2, uint8_t* code) {
    vfloat total[2][COLUMNS];
    for (auto& row : total)
        for (auto& pixel : row) pixel = load(w.b2 + k);
    for (int c = 0; c < K1; c++) {
        const float *from = a1 + (c * P1 + 2 * i) * P1 + 2 * j, *weights = w.w2[c * TAPS5] + k;
        second_taps<COLUMNS, true, false>(from, weights, total);
        for (int r = 1; r < 5; r++)
            second_taps<COLUMNS, true, true>(from + r * P1, weights + r * 5 * K2, total);
        second_taps<COLUMNS, false, true>(from + 5 * P1, weights + 25 * K2, total);
    }
    for (int x = 0; x < COLUMNS; x += 2) {
        Window<AVERAGE> out;
        for (int t = 0; t < 4; t++) out.take(total[t / 2][x + t % 2], t, true);
        out.finish(splat(4.0f), true);
        float value[LANES];
        uint8_t won[LANES];
        store(value, out.value);
        store_code(won, out.code);
        for (int l = 0; l < LANES; l++) {
            int at = (k + l) * P2 * P2 + i * P2 + j + x / 2;
            a2[at] = value[l];
            if (code) code[at] = won[l];
        }
    }
}

template <bool AVERAGE> void second_layer(const float* a1, const Packed& w, float* a2, uint8_t* code) {
    for (int i = 0; i < P2; i++)
        for (int k = 0; k < K2; k += LANES)
            if (LANES == 16) {  // 20 of 32 registers
                second_tile<10, AVERAGE>(a1, w, i, 0, k, a2, code);
            } else {  // 12 and 8 of 16
                second_tile<6, AVERAGE>(a1, w, i, 0, k, a2, code);
                second_tile<4, AVERAGE>(a1, w, i, 3, k, a2, code);
            }
}

struct Activations {
    float frame[SIDE * PITCH + 2 * LANES], a1[A1 + LANES];
    float a2[BLOCK * A2], f1[BLOCK * F1], f2[BLOCK * F2], logits[BLOCK * MOST_CLASSES];
};

// Up to BLOCK images from `first`. `saved` holds all images' a1, then a2, then f1, then f2; null without gradients.
template <class T, bool AVERAGE>
void block(const LeNetPlan& d, const T* x, const LeNetParameters& p, const Packed& w, int64_t first, int64_t images,
           T* logits, float* saved, uint8_t* codes, Activations& s) {
    float* a2 = saved ? saved + d.n * A1 + first * A2 : s.a2;
    float* f1 = saved ? saved + d.n * (A1 + A2) + first * F1 : s.f1;
    float* f2 = saved ? saved + d.n * (A1 + A2 + F1) + first * F2 : s.f2;
    for (int64_t i = 0; i < images; i++) {
        int64_t image = first + i;
        float* a1 = saved ? saved + image * A1 : s.a1;
        uint8_t* code = codes ? codes + image * CODES : nullptr;
        frame_image(d, x + image * d.size * d.size, s.frame);
        first_layer<AVERAGE>(s.frame, w, a1, code);
        second_layer<AVERAGE>(a1, w, a2 + i * A2, code ? code + A1 : nullptr);
    }
    auto at = [](void* q) { return static_cast<const T*>(q); };
    dense(a2, images, A2, at(p.w3), at(p.b3), true, f1, F1);
    dense(f1, images, F1, at(p.w4), at(p.b4), true, f2, F2);
    dense(f2, images, F2, at(p.w5), at(p.b5), false, s.logits, d.classes);
    for (int64_t i = 0; i < images * d.classes; i++) logits[first * d.classes + i] = from_float<T>(s.logits[i]);
}

template <class T>
int forward(const LeNetPlan& d, const T* x, const LeNetParameters& p, T* logits, float* saved, uint8_t* codes) {
    Packed packed;
    pack<T>(p, packed);
    int64_t blocks = ceil_div(d.n, BLOCK);
    std::atomic<int> failed{0};
    parallel(blocks, chunks_for(d.threads, blocks), [&](int64_t, int64_t begin, int64_t end) {
        std::unique_ptr<Activations, decltype(&free)> s(static_cast<Activations*>(malloc(sizeof(Activations))), &free);
        if (!s) {
            failed = -1;
            return;
        }
        memset(s->frame, 0, sizeof s->frame);
        for (int64_t i = begin; i < end; i++) {
            int64_t first = i * BLOCK, images = smaller(BLOCK, d.n - first);
            if (d.average)
                block<T, true>(d, x, p, packed, first, images, logits, saved, codes, *s);
            else
                block<T, false>(d, x, p, packed, first, images, logits, saved, codes, *s);
        }
    });
    return failed;
}

}  // namespace
}  // namespace ISA

// logits[n][classes]; `saved` (n * SAVED floats) and `codes` (n * CODES bytes) together, or both null.
EXPORT(lenet_forward)(const LeNetPlan* plan, const void* x, const LeNetParameters* parameters, void* logits,
                      float* saved, uint8_t* codes) {
    using namespace ISA;
    if (plan->classes > MOST_CLASSES || plan->size + 2 * plan->pad != SIDE) return -2;
    return plan->bf16 ? forward(*plan, (const bfloat16*)x, *parameters, (bfloat16*)logits, saved, codes)
                      : forward(*plan, (const float*)x, *parameters, (float*)logits, saved, codes);
}
