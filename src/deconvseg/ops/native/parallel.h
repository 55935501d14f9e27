// Threads and memory of one call. Threads are those of PyTorch (openmp.h), or else created for the call; memory is
// released at its end.
//
// The contract of run_team(threads, body), explained in docs/explanation/kernels.md:
//   1. A body neither allocates nor throws: all memory is allocated before run_team(), because a worker cannot report
//      bad_alloc.
//   2. meet() is the publishing barrier, and the only one: all workers may read after it what any worker wrote before it.
//      Between two meetings no worker writes what another one reads or writes. share() distributes indices and publishes
//      nothing.
//   3. All workers call share() and meet() in the same order, with the same numbers of tasks, fewer than 2^31, and share()
//      at most Tasks::kSteps times between two meetings.
// A library built without NDEBUG aborts if 1 or 3 is violated; ThreadSanitizer reports violations of 2.
#pragma once

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cfenv>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <thread>
#include <vector>

#include "openmp.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace deconvseg {

#ifndef NDEBUG
// Whether this thread runs a body; see operator new in abi.cpp.
inline thread_local bool working = false;
#endif

// Request large pages for memory that is written for the first time: a page fault costs as much as copying the page.
inline void prefer_large_pages(void* memory, size_t bytes) {
#if defined(__linux__)
    constexpr uintptr_t large = uintptr_t{2} << 20;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + large - 1) & ~(large - 1);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + bytes) & ~(large - 1);
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

// Uninitialised numbers, aligned to a cache line.
template <class T>
class BufferOf {
  public:
    explicit BufferOf(size_t count) {
        assert(!working);
        const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
        data_ = static_cast<T*>(std::aligned_alloc(bytes >= (4u << 20) ? size_t{2} << 20 : 64, round(bytes)));
        if (data_ == nullptr) throw std::bad_alloc();
        prefer_large_pages(data_, bytes);
    }
    ~BufferOf() { std::free(data_); }
    BufferOf(const BufferOf&) = delete;
    BufferOf& operator=(const BufferOf&) = delete;
    operator T*() const { return data_; }

  private:
    static size_t round(size_t bytes) {
        const size_t unit = bytes >= (4u << 20) ? size_t{2} << 20 : 64;
        return bytes == 0 ? 64 : (bytes + unit - 1) / unit * unit;
    }
    T* data_;
};
using Buffer = BufferOf<float>;

// A barrier for the workers of a team. The last to arrive acquires the writes of all others, and releases them to all
// by incrementing the turn.
class Barrier {
  public:
    void wait(int count, uint32_t step) {
        const int turn = turn_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
            arrived_.store(0, std::memory_order_relaxed);
            step_.store(step, std::memory_order_relaxed);
            turn_.store(turn + 1, std::memory_order_release);
            return;
        }
        // Spin briefly, because steps are short; then yield, because cores may be shared.
        for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
            if (spins > 4000) std::this_thread::yield();
        assert(step_.load(std::memory_order_relaxed) == step);
    }

  private:
    std::atomic<int> arrived_{0}, turn_{0};
    std::atomic<uint32_t> step_{0};  // step of the last worker to arrive
};

// Distribution of a step's tasks. Each worker first processes its own range, so that neighbouring tasks share a
// processor's cache, and then takes tasks from the other ranges, so that a preempted worker does not delay the team for
// long.
class Tasks {
  public:
    // Largest number of steps between two meetings, after which counters are reused.
    static constexpr uint32_t kSteps = 64;

    explicit Tasks(int workers) : workers_(workers), counters_(kSteps * workers) {}

    // Number of tasks of a worker's range that were taken before this one. The upper half of a counter is its step.
    int64_t next(uint32_t step, int worker) {
        std::atomic<uint64_t>& counter = counters_[step % kSteps * workers_ + worker].value;
        uint64_t seen = counter.load(std::memory_order_relaxed), taken;
        do {
            assert(seen >> 32 <= step);
            taken = seen >> 32 == step ? seen & 0xffffffffu : 0;
        } while (!counter.compare_exchange_weak(seen, uint64_t{step} << 32 | (taken + 1), std::memory_order_relaxed));
        return static_cast<int64_t>(taken);
    }

  private:
    struct alignas(64) Counter {
        std::atomic<uint64_t> value{0};
    };
    int workers_;
    std::vector<Counter> counters_;
};

// One worker of a team: its index, the size of the team, the barrier and the shared tasks.
struct Worker {
    int index, count;
    Barrier* barrier;
    Tasks* tasks;
    mutable uint32_t step = 0, met = 0;  // number of steps so far, and at the last meeting

    // The publishing barrier: wait for every worker of the team.
    void meet() const {
        met = step;
        if (count > 1) barrier->wait(count, step);
    }

    // Call task(i) once for each 0 <= i < number, by any worker; does not wait.
    template <class Task>
    void share(int64_t number, Task task) const {
        ++step;
        assert(step - met <= Tasks::kSteps && number >> 31 == 0);
        if (count == 1) {
            for (int64_t i = 0; i < number; ++i) task(i);
            return;
        }
        for (int turn = 0; turn < count; ++turn) {
            const int owner = (index + turn) % count;
            const int64_t begin = number * owner / count, end = number * (owner + 1) / count;
            for (int64_t i = begin + tasks->next(step, owner); i < end; i = begin + tasks->next(step, owner)) task(i);
        }
    }
};

// noexcept: if a body throws anyway, the process ends instead of unwinding past running threads.
template <class Body>
void run_body(const Body& body, const Worker& worker) noexcept {
#ifndef NDEBUG
    working = true;
#endif
    body(worker);
#ifndef NDEBUG
    working = false;
#endif
}

// Run body(worker) on `threads` threads including the calling one, or on fewer if the system refuses more.
template <class Body>
void run_team(int64_t threads, Body body) {
    Barrier barrier;
    Tasks tasks(static_cast<int>(threads));
    const auto work = [&](int index, int count) { run_body(body, Worker{index, count, &barrier, &tasks}); };
    if (threads == 1) return work(0, 1);
    if (const OpenMp& openmp = OpenMp::loaded(); openmp.usable()) {
        std::fenv_t rounding;
        std::fegetenv(&rounding);
        auto of_team = [&] {
            const int index = openmp.index();
            if (index >= threads) return;
            // The threads compute as the calling one does, for example with denormal numbers flushed, and only here.
            std::fenv_t own;
            std::fegetenv(&own);
            std::fesetenv(&rounding);
            work(index, std::min(openmp.count(), static_cast<int>(threads)));
            std::fesetenv(&own);
        };
        using Work = decltype(of_team);
        // 0 is PyTorch's number of threads. GCC's library ends the threads that a smaller team does not need, and
        // creates them again for the next loop.
        openmp.parallel([](void* call) { (*static_cast<Work*>(call))(); }, &of_team, 0, 0);
        return;
    }
    std::atomic<int> size{0};
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
        for (int index = 1; index < threads; ++index)
            others.emplace_back([&, index] {
                while (size.load(std::memory_order_acquire) == 0) std::this_thread::yield();
                work(index, size.load(std::memory_order_relaxed));
            });
    } catch (const std::exception&) {
        // A limit on threads or memory was reached: continue with the threads that exist.
    }
    size.store(static_cast<int>(others.size()) + 1, std::memory_order_release);
    work(0, static_cast<int>(others.size()) + 1);
    for (auto& thread : others) thread.join();
}

}  // namespace deconvseg
