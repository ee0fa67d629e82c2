// One source for every instruction set: vectors by the extensions that GCC and Clang share, one width per compilation.
//
// setup.py compiles each kernel file once per set with -DISA=<name> -DVECTOR_BYTES=<width>; everything lives in
// `namespace ISA`, so that no inline function of a wider set can be linked into a narrower one.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define EXPORT(name) EXPORTED int JOIN(name, ISA)  // e.g. pool_forward_avx2
#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace ISA {

constexpr int LANES = VECTOR_BYTES / 4;

typedef float vfloat __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vint __attribute__((vector_size(VECTOR_BYTES)));
typedef uint32_t vuint __attribute__((vector_size(VECTOR_BYTES)));
typedef uint16_t vshort __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint8_t vbyte __attribute__((vector_size(VECTOR_BYTES / 4)));

struct bfloat16 {
    uint16_t bits;
};

INLINE vfloat splat(float value) { return value - vfloat{}; }  // x - 0 is x, also for -0: no addition is left
INLINE vint splat_int(int32_t value) { return vint{} + value; }
INLINE vfloat select(vint mask, vfloat yes, vfloat no) { return mask ? yes : no; }

// relu keeps NaN, as torch's does.
INLINE vfloat relu(vfloat v) { return select(v <= 0.0f, vfloat{}, v); }
INLINE float relu(float v) { return v <= 0.0f ? 0.0f : v; }

// torch's rule for a maximum: a later value wins when it is larger or NaN, so ties keep the first and NaN the last.
INLINE vint beats(vfloat later, vfloat best) { return (later > best) | (later != later); }
INLINE vfloat maximum(vfloat best, vfloat later) { return select(beats(later, best), later, best); }

// ---- bfloat16 <-> float32, rounding to nearest even ----

INLINE float to_float(float v) { return v; }
INLINE float to_float(bfloat16 v) {
    uint32_t bits = uint32_t(v.bits) << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

template <class T> INLINE T from_float(float v);
template <> INLINE float from_float<float>(float v) { return v; }
template <> INLINE bfloat16 from_float<bfloat16>(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    if (v != v) return {0x7fc0};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

INLINE vfloat widen(vshort half) {
    vuint bits = __builtin_convertvector(half, vuint) << 16;
    vfloat out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

INLINE vshort narrow(vfloat v) {
    vuint bits;
    memcpy(&bits, &v, sizeof bits);
    vuint rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    vint nan = v != v;
    return __builtin_convertvector(nan ? vuint{} + 0x7fc0 : rounded, vshort);
}

// ---- loads and stores of a whole vector, no alignment asked ----

INLINE vfloat load(const float* p) {
    vfloat v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE vfloat load(const bfloat16* p) {
    vshort half;
    memcpy(&half, p, sizeof half);
    return widen(half);
}
INLINE void store(float* p, vfloat v) { memcpy(p, &v, sizeof v); }
INLINE void store(bfloat16* p, vfloat v) {
    vshort half = narrow(v);
    memcpy(p, &half, sizeof half);
}
#if defined(__AVX512F__)  // GCC 12 widens bytes in eight steps where the machine has one
INLINE vint load_code(const uint8_t* p) { return (vint)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
INLINE void store_code(uint8_t* p, vint code) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8((__m512i)code)); }
#else
INLINE vint load_code(const uint8_t* p) {
#if defined(__AVX2__)
    return (vint)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
#else
    vbyte bytes;
    memcpy(&bytes, p, sizeof bytes);
    return __builtin_convertvector(bytes, vint);
#endif
}
INLINE void store_code(uint8_t* p, vint code) {
    vbyte bytes = __builtin_convertvector(code, vbyte);
    memcpy(p, &bytes, sizeof bytes);
}
#endif

// Keeps a loaded vector in its register: compilers else load it again for every use, as an operand of the arithmetic.
INLINE void keep(vfloat& v) {
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__x86_64__)
    asm("" : "+x"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
}

// Keeps one pointer that moves along: compilers else hold the address of every store that they unroll.
template <class T> INLINE void keep(T*& p) { asm("" : "+r"(p)); }

// ---- the first n lanes (0 <= n <= LANES): nothing beyond them is touched; the rest of a load is zero ----

#if defined(__AVX512F__)
INLINE __mmask16 lanes(int n) { return __mmask16((1u << n) - 1); }
INLINE vfloat load_part(const float* p, int n) { return (vfloat)_mm512_maskz_loadu_ps(lanes(n), p); }
INLINE void store_part(float* p, vfloat v, int n) { _mm512_mask_storeu_ps(p, lanes(n), (__m512)v); }
INLINE vfloat load_part(const bfloat16* p, int n) { return widen((vshort)_mm256_maskz_loadu_epi16(lanes(n), p)); }
INLINE void store_part(bfloat16* p, vfloat v, int n) { _mm256_mask_storeu_epi16(p, lanes(n), (__m256i)narrow(v)); }
INLINE vint load_code_part(const uint8_t* p, int n) {
    return (vint)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes(n), p));
}
INLINE void store_code_part(uint8_t* p, vint code, int n) {
    _mm_mask_storeu_epi8(p, lanes(n), _mm512_cvtepi32_epi8((__m512i)code));
}
#else
template <class T> INLINE vfloat load_part(const T* p, int n) {
    if (n == LANES) return load(p);
    float lane[LANES] = {};
    for (int i = 0; i < n; i++) lane[i] = to_float(p[i]);
    return load(lane);
}
template <class T> INLINE void store_part(T* p, vfloat v, int n) {
    if (n == LANES) return store(p, v);
    float lane[LANES];
    store(lane, v);
    for (int i = 0; i < n; i++) p[i] = from_float<T>(lane[i]);
}
#if defined(__AVX2__)
INLINE __m256i lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
template <> INLINE vfloat load_part(const float* p, int n) { return (vfloat)_mm256_maskload_ps(p, lanes(n)); }
template <> INLINE void store_part(float* p, vfloat v, int n) { _mm256_maskstore_ps(p, lanes(n), (__m256)v); }
#endif
INLINE vint load_code_part(const uint8_t* p, int n) {
    uint8_t lane[LANES] = {};
    for (int i = 0; i < n; i++) lane[i] = p[i];
    return load_code(lane);
}
INLINE void store_code_part(uint8_t* p, vint code, int n) {
    uint8_t lane[LANES];
    store_code(lane, code);
    for (int i = 0; i < n; i++) p[i] = lane[i];
}
#endif

// ---- lanes rearranged ----

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, vint{__VA_ARGS__})
#endif

template <int PARITY, int... I> INLINE vfloat every_second(vfloat a, vfloat b, std::integer_sequence<int, I...>) {
    return SHUFFLE(a, b, (2 * I + PARITY)...);
}
template <int HALF, int... I> INLINE vfloat zip(vfloat a, vfloat b, std::integer_sequence<int, I...>) {
    return SHUFFLE(a, b, ((I + HALF * LANES) / 2 + (I % 2) * LANES)...);
}
using Sequence = std::make_integer_sequence<int, LANES>;

INLINE vfloat even(vfloat a, vfloat b) { return every_second<0>(a, b, Sequence{}); }  // a0 a2 .. b0 b2 ..
INLINE vfloat odd(vfloat a, vfloat b) { return every_second<1>(a, b, Sequence{}); }   // a1 a3 .. b1 b3 ..
INLINE vfloat zip_low(vfloat a, vfloat b) { return zip<0>(a, b, Sequence{}); }        // a0 b0 a1 b1 ..
INLINE vfloat zip_high(vfloat a, vfloat b) { return zip<1>(a, b, Sequence{}); }

INLINE float sum(vfloat v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    float lane[LANES], total = 0;
    store(lane, v);
    for (int step = LANES / 2; step; step /= 2)
        for (int i = 0; i < step; i++) lane[i] += lane[i + step];
    total = lane[0];
    return total;
#endif
}

// Asks for what lies AHEAD bytes after `from`: planes follow each other, and the hardware's own prefetching ends with a
// page. A prefetch beyond the tensor does nothing. 1.4x on strided depthwise filters of cold maps.
constexpr uintptr_t AHEAD = 4096;
template <class T> INLINE void prefetch_ahead(const T* from, int64_t width) {
    uintptr_t at = reinterpret_cast<uintptr_t>(from) + AHEAD, end = at + uintptr_t(width) * sizeof(T);
    for (; at < end; at += 64) __builtin_prefetch(reinterpret_cast<const void*>(at));
}

INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int rest(int64_t total, int64_t from) { return int(smaller(total - from, LANES)); }

}  // namespace ISA
