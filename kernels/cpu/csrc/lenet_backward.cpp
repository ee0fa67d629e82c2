// The whole LeNet-5 backward: gradients of the ten parameters from the gradient of the logits.
//
// Behind a pool at most one of four convolution outputs has a gradient, so the convolutions' gradients run over lists
// of live outputs ("events") instead of all of them. The first activation is turned to [row][column][channel]: an
// event's 5x5x6 patch is then 5 runs of 30 contiguous floats, whole vectors of work.
#include <atomic>

#include "lenet.h"

namespace ISA {
struct Gradients {  // float32, in torch's layout
    float *w1, *b1, *w2, *b2, *w3, *b3, *w4, *b4, *w5, *b5;
};

namespace {

constexpr int LINE = P1 * K1;                         // one row of the turned activation
constexpr int RUN = 5 * K1, VECTORS = 32 / LANES;     // one patch row: 30 floats in whole vectors
constexpr int LAST = RUN - (VECTORS - 1) * LANES;     // lanes of its last vector that belong to it
constexpr int SHORT = LANES < 8 ? 2 : 1;              // vectors of a patch row of the first convolution: 5 floats
constexpr int GROUP = LANES == 16 ? 5 : LANES == 8 ? 2 : 1;  // patch rows held in registers at once

struct Event {
    int32_t at;  // where its patch starts
    float g;
};

struct Workspace {
    float frame[SIDE * PITCH + 2 * LANES];
    float turned[P1 * LINE + 2 * LANES], d_turned[P1 * LINE + 2 * LANES];
    float w2[K2][5][VECTORS * LANES];                 // filters as patches, zero beyond the run
    float dw1[K1][5][SHORT * LANES], dw2[K2][5][VECTORS * LANES];
    float g[BLOCK * MOST_CLASSES], d2[BLOCK * F2], d1[BLOCK * F1], da2[BLOCK * A2];
    Event events[4 * P1 * P1 + 1];
};

// The live outputs behind one plane of `side` x `side` pooled gradients, `step` apart, for patches in rows of `pitch`
// and pixels `width` apart. Returns their count and adds their sum to `bias`.
template <bool AVERAGE>
INLINE int list_events(const float* g, int step, const uint8_t* code, int side, int pitch, int width, Event* to,
                       float& bias) {
    int count = 0;
    float total = 0;
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++, code++, g += step) {
            int corner = 2 * i * pitch + 2 * j * width;
            if (AVERAGE) {
                for (int t = 0; t < 4; t++) {
                    to[count] = {corner + t / 2 * pitch + t % 2 * width, *g / 4};
                    bool alive = *code >> t & 1;
                    count += alive;
                    total += alive ? *g / 4 : 0.0f;
                }
            } else {
                int t = *code & 3;
                bool alive = *code != DEAD;
                to[count] = {corner + t / 2 * pitch + t % 2 * width, *g};
                count += alive;
                total += alive ? *g : 0.0f;
            }
        }
    bias += total;
    return count;
}

// Adds ROWS patch rows of every event, times its gradient, to dw: a filter's gradient over one image.
template <int ROWS, int V>
INLINE void add_patches(const float* from, int pitch, const Event* e, int count, float* dw) {
    vfloat total[2][ROWS][V] = {};
    constexpr int CHAINS = ROWS * V < 8 ? 2 : 1;  // few sums: two of each, so that additions do not wait in line
    int n = 0;
    for (; n + CHAINS <= count; n += CHAINS)
        for (int h = 0; h < CHAINS; h++) {
            vfloat g = splat(e[n + h].g);
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < V; v++) total[h][r][v] += g * load(from + e[n + h].at + r * pitch + v * LANES);
        }
    for (; n < count; n++)
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < V; v++)
                total[0][r][v] += splat(e[n].g) * load(from + e[n].at + r * pitch + v * LANES);
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++) {
            float* to = dw + (r * V + v) * LANES;
            store(to, load(to) + (CHAINS == 2 ? total[0][r][v] + total[1][r][v] : total[0][r][v]));
        }
}

template <bool AVERAGE>
void second_weight_gradient(const float* da2, const uint8_t* code, Workspace& s, float* db) {
    for (int k = 0; k < K2; k++) {
        int count = list_events<AVERAGE>(da2 + k * P2 * P2, 1, code + k * P2 * P2, P2, LINE, K1, s.events, db[k]);
        int r = 0;
        for (; r + GROUP <= 5; r += GROUP)
            add_patches<GROUP, VECTORS>(s.turned + r * LINE, LINE, s.events, count, s.dw2[k][r]);
        for (; r < 5; r++) add_patches<1, VECTORS>(s.turned + r * LINE, LINE, s.events, count, s.dw2[k][r]);
    }
}

// Adds ROWS patch rows of the filters ks[0 .. count) times their gradients to the patch at `to`.
template <int ROWS>
INLINE void spread_rows(const Workspace& s, const int* ks, const float* g, int count, int r, float* to) {
    vfloat total[ROWS][VECTORS];
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < VECTORS; v++) total[i][v] = load(to + i * LINE + v * LANES);
    for (int n = 0; n < count; n++) {
        vfloat factor = splat(g[n]);
        for (int i = 0; i < ROWS; i++)
            for (int v = 0; v < VECTORS; v++) total[i][v] += factor * load(s.w2[ks[n]][r + i] + v * LANES);
    }
    for (int i = 0; i < ROWS; i++)
        for (int v = 0; v < VECTORS; v++) {
            float* p = to + i * LINE + v * LANES;
            v == VECTORS - 1 ? store_part(p, total[i][v], LAST) : store(p, total[i][v]);
        }
}

// d_turned = the second convolution's input gradient: per pixel of the pool and place in its window, the filters that
// won there together, so that the patch is read and written once for all of them.
template <bool AVERAGE> void second_input_gradient(const float* da2, const uint8_t* code, Workspace& s) {
    memset(s.d_turned, 0, sizeof s.d_turned);
    for (int i = 0; i < P2; i++)
        for (int j = 0; j < P2; j++)
            for (int t = 0; t < 4; t++) {
                int ks[K2 + 1], count = 0;
                float g[K2 + 1];
                for (int k = 0; k < K2; k++) {
                    int at = k * P2 * P2 + i * P2 + j;
                    ks[count] = k;
                    g[count] = AVERAGE ? da2[at] / 4 : da2[at];
                    count += AVERAGE ? code[at] >> t & 1 : code[at] == t;
                }
                if (!count) continue;
                float* to = s.d_turned + (2 * i + t / 2) * LINE + (2 * j + t % 2) * K1;
                int r = 0;
                for (; r + GROUP <= 5; r += GROUP) spread_rows<GROUP>(s, ks, g, count, r, to + r * LINE);
                for (; r < 5; r++) spread_rows<1>(s, ks, g, count, r, to + r * LINE);
            }
}

template <bool AVERAGE> void first_weight_gradient(const uint8_t* code, Workspace& s, float* db) {
    for (int k = 0; k < K1; k++) {
        int count = list_events<AVERAGE>(s.d_turned + k, K1, code + k * P1 * P1, P1, PITCH, 1, s.events, db[k]);
        add_patches<5, SHORT>(s.frame, PITCH, s.events, count, s.dw1[k][0]);
    }
}

// Adds the gradients of up to BLOCK images from `first` to `to` (`fresh`: writes them) and to the workspace's patches.
template <class T, bool AVERAGE>
void block(const LeNetPlan& d, const T* dlogits, const T* x, const LeNetParameters& p, const float* saved,
           const uint8_t* codes, int64_t first, int64_t images, bool fresh, const Gradients& to, Workspace& s) {
    const float *a1 = saved + first * A1, *a2 = saved + d.n * A1 + first * A2;
    const float *f1 = saved + d.n * (A1 + A2) + first * F1, *f2 = saved + d.n * (A1 + A2 + F1) + first * F2;
    auto at = [](void* q) { return static_cast<const T*>(q); };
    for (int64_t i = 0; i < images * d.classes; i++) s.g[i] = to_float(dlogits[first * d.classes + i]);
    dense_weight_gradient(s.g, images, d.classes, f2, F2, to.w5, to.b5, fresh);
    dense_input_gradient(s.g, images, d.classes, at(p.w5), F2, f2, s.d2);
    dense_weight_gradient(s.d2, images, F2, f1, F1, to.w4, to.b4, fresh);
    dense_input_gradient(s.d2, images, F2, at(p.w4), F1, f1, s.d1);
    dense_weight_gradient(s.d1, images, F1, a2, A2, to.w3, to.b3, fresh);
    dense_input_gradient<T>(s.d1, images, F1, at(p.w3), A2, nullptr, s.da2);
    for (int64_t i = 0; i < images; i++) {
        const uint8_t* code = codes + (first + i) * CODES;
        for (int c = 0; c < K1; c++)
            for (int o = 0; o < P1 * P1; o++) s.turned[o * K1 + c] = a1[i * A1 + c * P1 * P1 + o];
        frame_image(d, x + (first + i) * d.size * d.size, s.frame);
        second_weight_gradient<AVERAGE>(s.da2 + i * A2, code + A1, s, to.b2);
        second_input_gradient<AVERAGE>(s.da2 + i * A2, code + A1, s);
        first_weight_gradient<AVERAGE>(code, s, to.b1);
    }
}

// The filters of the second convolution as patches [k][row][column][channel].
template <class T> void pack_patches(const T* w2, Workspace& s) {
    memset(s.w2, 0, sizeof s.w2);
    for (int k = 0; k < K2; k++)
        for (int c = 0; c < K1; c++)
            for (int t = 0; t < TAPS5; t++) s.w2[k][t / 5][t % 5 * K1 + c] = to_float(w2[(k * K1 + c) * TAPS5 + t]);
}

void unpack_patches(const Workspace& s, const Gradients& to) {
    for (int k = 0; k < K1; k++)
        for (int t = 0; t < TAPS5; t++) to.w1[k * TAPS5 + t] = s.dw1[k][t / 5][t % 5];
    for (int k = 0; k < K2; k++)
        for (int c = 0; c < K1; c++)
            for (int t = 0; t < TAPS5; t++) to.w2[(k * K1 + c) * TAPS5 + t] = s.dw2[k][t / 5][t % 5 * K1 + c];
}

constexpr int64_t HIDDEN = K1 * TAPS5 + K1 + K2 * K1 * TAPS5 + K2 + F1 * A2 + F1 + F2 * F1 + F2;

// A thread's own gradients, all in one buffer of `floats(d)`.
int64_t floats(const LeNetPlan& d) { return HIDDEN + d.classes * (F2 + 1); }
Gradients inside(const LeNetPlan& d, float* at) {
    auto next = [&](int64_t size) { return at += size, at - size; };
    float *w1 = next(K1 * TAPS5), *b1 = next(K1), *w2 = next(K2 * K1 * TAPS5), *b2 = next(K2);
    float *w3 = next(F1 * A2), *b3 = next(F1), *w4 = next(F2 * F1), *b4 = next(F2);
    float *w5 = next(d.classes * F2), *b5 = next(d.classes);
    return {w1, b1, w2, b2, w3, b3, w4, b4, w5, b5};
}

void add(const LeNetPlan& d, const Gradients& to, const Gradients& from) {
    auto all = [](float* y, const float* x, int64_t size) {
        for (int64_t i = 0; i < size; i++) y[i] += x[i];
    };
    all(to.w1, from.w1, K1 * TAPS5), all(to.b1, from.b1, K1), all(to.w2, from.w2, K2 * K1 * TAPS5);
    all(to.b2, from.b2, K2), all(to.w3, from.w3, F1 * A2), all(to.b3, from.b3, F1), all(to.w4, from.w4, F2 * F1);
    all(to.b4, from.b4, F2), all(to.w5, from.w5, d.classes * F2), all(to.b5, from.b5, d.classes);
}

template <class T>
int backward(const LeNetPlan& d, const T* dlogits, const T* x, const LeNetParameters& p, const float* saved,
             const uint8_t* codes, const Gradients& gradients) {
    int64_t blocks = ceil_div(d.n, BLOCK), chunks = chunks_for(d.threads, blocks);
    Memory parts = allocate((chunks - 1) * floats(d));
    if (!parts) return -1;
    std::atomic<int> failed{0};
    parallel(blocks, chunks, [&](int64_t chunk, int64_t begin, int64_t end) {
        Gradients to = chunk ? inside(d, parts.get() + (chunk - 1) * floats(d)) : gradients;
        std::unique_ptr<Workspace, decltype(&free)> s(static_cast<Workspace*>(calloc(1, sizeof(Workspace))), &free);
        if (!s) {
            failed = -1;
            return;
        }
        for (int k = 0; k < K1; k++) to.b1[k] = 0;
        for (int k = 0; k < K2; k++) to.b2[k] = 0;
        pack_patches(static_cast<const T*>(p.w2), *s);
        for (int64_t i = begin; i < end; i++) {
            int64_t first = i * BLOCK, images = smaller(BLOCK, d.n - first);
            if (d.average)
                block<T, true>(d, dlogits, x, p, saved, codes, first, images, i == begin, to, *s);
            else
                block<T, false>(d, dlogits, x, p, saved, codes, first, images, i == begin, to, *s);
        }
        unpack_patches(*s, to);
    });
    if (failed) return failed;
    for (int64_t c = 0; c + 1 < chunks; c++) add(d, gradients, inside(d, parts.get() + c * floats(d)));
    return failed;
}

}  // namespace
}  // namespace ISA

// The gradients of the ten parameters, float32.
EXPORT(lenet_backward)(const LeNetPlan* plan, const void* dlogits, const void* x, const LeNetParameters* parameters,
                       const float* saved, const uint8_t* codes, const ISA::Gradients* gradients) {
    using namespace ISA;
    if (plan->classes > MOST_CLASSES || plan->size + 2 * plan->pad != SIDE) return -2;
    return plan->bf16
               ? backward(*plan, (const bfloat16*)dlogits, (const bfloat16*)x, *parameters, saved, codes, *gradients)
               : backward(*plan, (const float*)dlogits, (const float*)x, *parameters, saved, codes, *gradients);
}
