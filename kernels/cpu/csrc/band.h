// A band of input rows, padded and split by (column mod stride), so that a convolution's inner loop is one contiguous
// load per tap: no bounds, no stride, any dilation.
#pragma once

#include <cstdlib>
#include <memory>

#include "rows.h"

struct ConvPlan {
    int64_t n, c, h, w, k, r, s;          // images, channels, rows, columns; filters and their taps
    int64_t sh, sw, ph, pw, dh, dw;       // stride, padding (top and left; the output size holds the rest), dilation
    int64_t p, q;                         // the convolution's output
    int64_t po, qo;                       // the pooled output: p / 2, q / 2
    int64_t relu, pool;                   // pool: 0 none, 1 maximum, 2 average, of 2x2 with stride 2
    int64_t bf16, threads;
};

namespace ISA {

typedef std::unique_ptr<float[], decltype(&free)> Memory;
INLINE Memory allocate(int64_t count) {
    return Memory(static_cast<float*>(malloc(sizeof(float) * (count > 0 ? count : 1))), &free);
}

constexpr int64_t BAND_FLOATS = 6144;  // 24 KiB: stays in the smallest first-level cache in use

struct Band {
    const ConvPlan& d;
    int64_t channels, pitch, rows, outputs;  // floats per phase row; input and output rows of a band
    Memory memory;

    // `even`: bands hold pairs of output rows.
    Band(const ConvPlan& plan, int64_t channel_count, bool even)
        : d(plan), channels(channel_count),
          pitch(larger(ceil_div(plan.w + plan.pw, plan.sw), plan.q + ceil_div(plan.s * plan.dw, plan.sw)) + 2 * LANES),
          memory(nullptr, &free) {
        int64_t fit = BAND_FLOATS / (channels * d.sw * pitch) - (d.r - 1) * d.dh - 1;
        outputs = smaller(larger(fit / d.sh + 1, even ? 2 : 1), d.p + (even ? d.p % 2 : 0));
        if (even) outputs -= outputs % 2;
        rows = (outputs - 1) * d.sh + (d.r - 1) * d.dh + 1;
        memory = allocate(channels * rows * d.sw * pitch);
        if (memory) memset(memory.get(), 0, channels * rows * d.sw * pitch * sizeof(float));
    }

    // Where tap (c, r, s) of output column 0 lies, from the start of an output row.
    int64_t tap(int64_t c, int64_t r, int64_t s) const {
        return ((c * rows + r * d.dh) * d.sw + (s * d.dw) % d.sw) * pitch + (s * d.dw) / d.sw;
    }
    int64_t output_pitch() const { return d.sh * d.sw * pitch; }

    // The input rows of output rows first .. first + outputs of `planes` consecutive channels.
    template <class T> void pack(const T* x, int64_t first, int64_t planes) {
        int64_t top = first * d.sh - d.ph;
        for (int64_t c = 0; c < planes; c++)
            for (int64_t i = 0; i < rows; i++) {
                float* to = memory.get() + (c * rows + i) * d.sw * pitch;
                if (top + i >= 0 && top + i < d.h)
                    split_row(x + (c * d.h + top + i) * d.w, d.w, d.pw, d.sw, to, pitch);
                else if (outputs < d.p)  // else these rows are always the padding's, and zero from the start
                    memset(to, 0, d.sw * pitch * sizeof(float));
            }
    }
};

}  // namespace ISA
