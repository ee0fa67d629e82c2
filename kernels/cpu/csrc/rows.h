// One image row copied into padded, split columns: what lets every tap of a strided window be one contiguous load.
#pragma once

#include "vector.h"

namespace ISA {

// Column w of `from` goes to to[(w + pad) % stride][(w + pad) / stride] of `stride` rows of `pitch` floats; nothing
// else is written, so the padding stays what it was.
template <class T>
INLINE void split_row(const T* from, int64_t width, int64_t pad, int64_t stride, float* to, int64_t pitch) {
    int64_t w = 0, phase = pad % stride, at = pad / stride;
    prefetch_ahead(from, width);
    if (stride == 1) {
        for (; w + LANES <= width; w += LANES) store(to + at + w, load(from + w));
        if (w < width) store_part(to + at + w, load_part(from + w, int(width - w)), int(width - w));
        return;
    }
    if (stride == 2) {
        if (phase) to[pitch + at++] = to_float(from[w++]);
        for (; w + 2 * LANES <= width; w += 2 * LANES, at += LANES) {
            vfloat low = load(from + w), high = load(from + w + LANES);
            store(to + at, even(low, high));
            store(to + pitch + at, odd(low, high));
        }
        if (w < width) {
            int n = int(width - w);
            vfloat low = load_part(from + w, int(smaller(n, LANES)));
            vfloat high = n > LANES ? load_part(from + w + LANES, n - LANES) : vfloat{};
            store_part(to + at, even(low, high), (n + 1) / 2);
            store_part(to + pitch + at, odd(low, high), n / 2);
        }
        return;
    }
    for (; w < width; w++) {
        to[phase * pitch + at] = to_float(from[w]);
        if (++phase == stride) phase = 0, at++;
    }
}

}  // namespace ISA
