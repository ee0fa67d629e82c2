// The one file compiled once: finding torch's OpenMP at run time, and what the processor can run.
#include "threads.h"

#include <atomic>
#include <cstring>
#if !defined(_WIN32)
#include <dlfcn.h>
#include <pthread.h>
#endif

namespace {

typedef void (*Parallel)(void (*)(void*), void*, unsigned, unsigned);

struct Job {
    void (*work)(void*, int64_t, int64_t, int64_t);
    void* context;
    int64_t items, chunks;
    std::atomic<int64_t> next{0};
};

// Every thread takes parts until none is left: right even when OpenMP grants fewer threads than asked.
void take_parts(void* argument) {
    Job* job = static_cast<Job*>(argument);
    for (int64_t i; (i = job->next.fetch_add(1)) < job->chunks;)
        job->work(job->context, i, i * job->items / job->chunks, (i + 1) * job->items / job->chunks);
}

std::atomic<bool> forked{false};

#if !defined(_WIN32)
// GOMP_parallel is the call GCC emits for `#pragma omp parallel`; torch's own library answers it. After a fork its
// workers do not exist in the child and waiting for them would hang, so a child stays on one thread.
Parallel find_parallel() {
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
    return reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
}
#else
Parallel find_parallel() { return nullptr; }
#endif

}  // namespace

extern "C" void run_chunks(void (*work)(void*, int64_t, int64_t, int64_t), void* context, int64_t items,
                           int64_t chunks) {
    static const Parallel openmp = find_parallel();
    Job job{work, context, items, chunks};
    if (chunks > 1 && openmp && !forked)
        openmp(take_parts, &job, unsigned(chunks), 0);
    else
        take_parts(&job);
}

// The hash of the sources this library was built from, so that a stale one is noticed.
extern "C" __attribute__((visibility("default"))) const char* source_id() { return SOURCE_ID; }

// Whether this processor and its operating system run the named instruction set.
extern "C" __attribute__((visibility("default"))) int cpu_runs(const char* isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!strcmp(isa, "avx512")) return avx512;
    if (!strcmp(isa, "avx2")) return avx2;
#endif
    return !strcmp(isa, "baseline");
}
