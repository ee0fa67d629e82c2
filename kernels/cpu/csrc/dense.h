// Small dense layers over a block of images, weights in torch's [out][in] order and never copied.
//
//     forward          y[i, o]  = b[o] + sum over j of x[i, j] * w[o, j]      vectors along j, added up at the end
//     input gradient   dx[i, j] = sum over o of g[i, o] * w[o, j]             vectors along j
//     weight gradient  dw[o, j] += sum over i of g[i, o] * x[i, j]            vectors along j
#pragma once

#include "vector.h"

namespace ISA {

constexpr int IMAGES = LANES == 16 ? 4 : 2;  // a backward tile's images: with 5 vectors 20 of 32, 10 of 16 registers

template <class T> INLINE vfloat load_upto(const T* p, int n) { return n == LANES ? load(p) : load_part(p, n); }

// The sums of LANES vectors, as one vector: neighbours added and gathered, log2(LANES) times.
INLINE vfloat sums(vfloat (&v)[LANES]) {
    for (int count = LANES / 2; count; count /= 2)
        for (int i = 0; i < count; i++) v[i] = even(v[2 * i], v[2 * i + 1]) + odd(v[2 * i], v[2 * i + 1]);
    return v[0];
}

template <int I, int O, class T>
INLINE void dense_tile(const float* x, int64_t in, const T* w, const T* b, bool with_relu, float* y, int64_t out) {
    vfloat total[I * O] = {};
    for (int64_t j = 0; j < in; j += LANES) {
        int n = rest(in, j);
        vfloat from[I];
        for (int i = 0; i < I; i++) from[i] = load_upto(x + i * in + j, n);
        for (int o = 0; o < O; o++) {
            vfloat weight = load_upto(w + o * in + j, n);
            for (int i = 0; i < I; i++) total[i * O + o] += from[i] * weight;
        }
    }
    for (int first = 0; first < I * O; first += LANES) {
        vfloat group[LANES] = {};
        float value[LANES];
        for (int k = 0; k < LANES && first + k < I * O; k++) group[k] = total[first + k];
        store(value, sums(group));
        for (int k = 0; k < LANES && first + k < I * O; k++) {
            int i = (first + k) / O, o = (first + k) % O;
            float v = value[k] + to_float(b[o]);
            y[i * out + o] = with_relu ? relu(v) : v;
        }
    }
}

template <int I, class T>
void dense_images(const float* x, int64_t in, const T* w, const T* b, bool with_relu, float* y, int64_t out) {
    constexpr int O = LANES < 16 || I == 4 ? 4 : 8;
    int64_t o = 0;
    for (; o + O <= out; o += O) dense_tile<I, O>(x, in, w + o * in, b + o, with_relu, y + o, out);
    for (; o + 2 <= out; o += 2) dense_tile<I, 2>(x, in, w + o * in, b + o, with_relu, y + o, out);
    if (o < out) dense_tile<I, 1>(x, in, w + o * in, b + o, with_relu, y + o, out);
}

// x[images][in] -> y[images][out]. More images to a tile read the weights, which fill the second-level cache, less often.
template <class T>
void dense(const float* x, int64_t images, int64_t in, const T* w, const T* b, bool with_relu, float* y, int64_t out) {
    int64_t i = 0;
    if (LANES == 16)
        for (; i + 4 <= images; i += 4) dense_images<4>(x + i * in, in, w, b, with_relu, y + i * out, out);
    for (; i + 2 <= images; i += 2) dense_images<2>(x + i * in, in, w, b, with_relu, y + i * out, out);
    if (i < images) dense_images<1>(x + i * in, in, w, b, with_relu, y + i * out, out);
}

template <int I, int V, class T>
INLINE void back_tile(const float* g, int64_t out, const T* w, int64_t in, const float* activation, float* dx,
                      int last) {
    vfloat total[I][V] = {};
    for (int64_t o = 0; o < out; o++) {
        vfloat weight[V];
        for (int v = 0; v < V; v++) weight[v] = load_upto(w + o * in + v * LANES, v == V - 1 ? last : LANES);
        for (int i = 0; i < I; i++) {
            vfloat factor = splat(g[i * out + o]);
            for (int v = 0; v < V; v++) total[i][v] += factor * weight[v];
        }
    }
    for (int i = 0; i < I; i++)
        for (int v = 0; v < V; v++) {
            int n = v == V - 1 ? last : LANES;
            vfloat d = total[i][v];
            if (activation) d = select(load_upto(activation + i * in + v * LANES, n) <= 0.0f, vfloat{}, d);
            store_part(dx + i * in + v * LANES, d, n);
        }
}

template <int I, class T>
void back_images(const float* g, int64_t out, const T* w, int64_t in, const float* activation, float* dx) {
    int64_t j = 0;
    for (; j + 5 * LANES <= in; j += 5 * LANES)
        back_tile<I, 5>(g, out, w + j, in, activation ? activation + j : nullptr, dx + j, LANES);
    for (; j < in; j += LANES)
        back_tile<I, 1>(g, out, w + j, in, activation ? activation + j : nullptr, dx + j, rest(in, j));
}

// g[images][out] -> dx[images][in]; where `activation` (after its relu) is given, its dead elements pass nothing.
template <class T>
void dense_input_gradient(const float* g, int64_t images, int64_t out, const T* w, int64_t in, const float* activation,
                          float* dx) {
    int64_t i = 0;
    for (; i + IMAGES <= images; i += IMAGES)
        back_images<IMAGES>(g + i * out, out, w, in, activation ? activation + i * in : nullptr, dx + i * in);
    for (; i < images; i++)
        back_images<1>(g + i * out, out, w, in, activation ? activation + i * in : nullptr, dx + i * in);
}

template <int O, int V>
INLINE void outer_tile(const float* g, int64_t images, int64_t out, const float* x, int64_t in, float* dw, int last,
                       bool fresh) {
    vfloat total[O][V] = {};
    if (!fresh)
        for (int o = 0; o < O; o++)
            for (int v = 0; v < V; v++) total[o][v] = load_upto(dw + o * in + v * LANES, v == V - 1 ? last : LANES);
    for (int64_t i = 0; i < images; i++) {
        vfloat from[V];
        for (int v = 0; v < V; v++) from[v] = load_upto(x + i * in + v * LANES, v == V - 1 ? last : LANES);
        for (int o = 0; o < O; o++) {
            vfloat factor = splat(g[i * out + o]);
            for (int v = 0; v < V; v++) total[o][v] += factor * from[v];
        }
    }
    for (int o = 0; o < O; o++)
        for (int v = 0; v < V; v++) store_part(dw + o * in + v * LANES, total[o][v], v == V - 1 ? last : LANES);
}

template <int O>
void outer_rows(const float* g, int64_t images, int64_t out, const float* x, int64_t in, float* dw, bool fresh) {
    int64_t j = 0;
    for (; j + 5 * LANES <= in; j += 5 * LANES) outer_tile<O, 5>(g, images, out, x + j, in, dw + j, LANES, fresh);
    for (; j < in; j += LANES) outer_tile<O, 1>(g, images, out, x + j, in, dw + j, rest(in, j), fresh);
}

// Adds a block of images to dw[out][in] and db[out]; the first block (`fresh`) writes them.
inline void dense_weight_gradient(const float* g, int64_t images, int64_t out, const float* x, int64_t in, float* dw,
                                  float* db, bool fresh) {
    constexpr int ROWS = LANES == 16 ? 4 : 2;
    int64_t o = 0;
    for (; o + ROWS <= out; o += ROWS) outer_rows<ROWS>(g + o, images, out, x, in, dw + o * in, fresh);
    for (; o < out; o++) outer_rows<1>(g + o, images, out, x, in, dw + o * in, fresh);
    for (o = 0; o < out; o++) {
        float total = fresh ? 0.0f : db[o];
        for (int64_t i = 0; i < images; i++) total += g[i * out + o];
        db[o] = total;
    }
}

}  // namespace ISA
