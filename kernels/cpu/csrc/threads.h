// Work split over the OpenMP threads that torch already has: no second runtime, no pool of our own.
#pragma once

#include <cstdint>
#include <type_traits>

// Calls work(context, chunk, begin, end) for `chunks` contiguous, equal parts of [0, items). The parts depend on
// `chunks` alone, never on which thread runs them, so that results repeat bit for bit.
extern "C" void run_chunks(void (*work)(void*, int64_t, int64_t, int64_t), void* context, int64_t items,
                           int64_t chunks);

template <class Work> void parallel(int64_t items, int64_t chunks, Work&& work) {
    run_chunks(
        [](void* context, int64_t chunk, int64_t begin, int64_t end) {
            (*static_cast<typename std::remove_reference<Work>::type*>(context))(chunk, begin, end);
        },
        &work, items, chunks);
}

inline int64_t chunks_for(int64_t threads, int64_t items) {
    return threads < items ? threads : (items > 0 ? items : 1);
}
