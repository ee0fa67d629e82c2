// LeNet-5 on 32x32 (padded) images: 6 filters 5x5, ReLU, pool, 16 filters 5x5, ReLU, pool, 400-120-84-classes.
#pragma once

#include "band.h"
#include "dense.h"
#include "pool.h"

struct LeNetPlan {
    int64_t n, size, pad;  // images of size x size, size + 2 * pad = 32
    int64_t classes, average, bf16, threads;
};

// Where the ten parameters (or their gradients) lie, in torch's order and layout.
struct LeNetParameters {
    void *w1, *b1, *w2, *b2, *w3, *b3, *w4, *b4, *w5, *b5;
};

namespace ISA {

constexpr int SIDE = 32, PITCH = 48;      // the padded image and its rows, with room for the last vectors
constexpr int K1 = 6, P1 = 14, K2 = 16, P2 = 5, TAPS5 = 25;
constexpr int A1 = K1 * P1 * P1, A2 = K2 * P2 * P2, F1 = 120, F2 = 84, MOST_CLASSES = 64;
constexpr int SAVED = A1 + A2 + F1 + F2;  // floats that the backward pass reads, per image
constexpr int CODES = A1 + A2;            // bytes
constexpr int BLOCK = 16;                 // images whose dense layers run together

// The image as float32 in a frame of zeros that the caller has cleared.
template <class T> INLINE void frame_image(const LeNetPlan& d, const T* x, float* frame) {
    for (int64_t h = 0; h < d.size; h++) {
        float* to = frame + (h + d.pad) * PITCH + d.pad;
        for (int64_t w = 0; w < d.size; w += LANES) {
            int n = rest(d.size, w);
            store_part(to + w, load_upto(x + h * d.size + w, n), n);
        }
    }
}

}  // namespace ISA
