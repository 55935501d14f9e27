// Threads and memory of one call. Both exist for the call only: no threads survive fork().
//
// The contract of run_team(threads, body), explained in docs/explanation/kernels.md:
//   1. A body neither allocates nor throws: all memory is made before run_team(), as a worker cannot report bad_alloc.
//   2. meet() is the publishing barrier, and the only one: what one worker wrote before it, all workers may read after it.
//      Between two meetings no worker writes what another one reads or writes. share() hands out indices and publishes nothing.
//   3. All workers call share() and meet() in the same order, with the same numbers of tasks, fewer than 2^31, and share() at
//      most Tasks::kSteps times between two meetings.
// A library built without NDEBUG aborts where 1 or 3 does not hold; ThreadSanitizer reports where 2 does not.
#pragma once

#include <atomic>
#include <cassert>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace deconvseg {

#ifndef NDEBUG
// Whether this thread runs a body; see operator new in abi.cpp.
inline thread_local bool working = false;
#endif

// Ask for large pages behind memory that will be written for the first time: a page fault costs as much as copying the page.
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

// Uninitialised floats, aligned to a cache line.
class Buffer {
  public:
    explicit Buffer(size_t floats) {
        assert(!working);
        const size_t bytes = (floats * sizeof(float) + 63) / 64 * 64;
        data_ = static_cast<float*>(std::aligned_alloc(bytes >= (4u << 20) ? size_t{2} << 20 : 64, round(bytes)));
        if (data_ == nullptr) throw std::bad_alloc();
        prefer_large_pages(data_, bytes);
    }
    ~Buffer() { std::free(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    operator float*() const { return data_; }

  private:
    static size_t round(size_t bytes) {
        const size_t unit = bytes >= (4u << 20) ? size_t{2} << 20 : 64;
        return bytes == 0 ? 64 : (bytes + unit - 1) / unit * unit;
    }
    float* data_;
};

// Where the workers of a team wait for each other. The last to arrive has acquired what all others released by arriving, and
// releases it to them by the next turn.
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
        // Spin for a moment, as steps are short; then let others run, as a core may be shared.
        for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
            if (spins > 4000) std::this_thread::yield();
        assert(step_.load(std::memory_order_relaxed) == step);
    }

  private:
    std::atomic<int> arrived_{0}, turn_{0};
    std::atomic<uint32_t> step_{0};  // at which the last worker arrived
};

// Tasks of the steps of a team: each worker has its own range of them, and helps the others when it is through, so that
// neighbours stay in one processor's cache and yet a worker that the system holds up does not hold up the others for long.
class Tasks {
  public:
    // Steps that may lie between two meetings: a counter serves again after as many.
    static constexpr uint32_t kSteps = 64;

    explicit Tasks(int workers) : workers_(workers), counters_(kSteps * workers) {}

    // How many tasks of that worker's range were taken before this one. The upper half of a counter says which step it
    // counts for.
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

// One worker of a team: which one it is of how many, the meeting point, and the tasks to share.
struct Worker {
    int index, count;
    Barrier* barrier;
    Tasks* tasks;
    mutable uint32_t step = 0, met = 0;  // steps so far, and up to the last meeting

    // The publishing barrier: wait until every worker of the team is here.
    void meet() const {
        met = step;
        if (count > 1) barrier->wait(count, step);
    }

    // Call task(i) for 0 <= i < number, each by one of the workers; no waiting.
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

// A body that throws all the same ends the process, instead of unwinding past threads that run.
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

// Run body(worker) on that many threads, the calling one among them; fewer where the system refuses more.
template <class Body>
void run_team(int64_t threads, Body body) {
    Barrier barrier;
    Tasks tasks(static_cast<int>(threads));
    std::atomic<int> size{0};
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
        for (int index = 1; index < threads; ++index)
            others.emplace_back([&, index] {
                while (size.load(std::memory_order_acquire) == 0) std::this_thread::yield();
                run_body(body, Worker{index, size.load(std::memory_order_relaxed), &barrier, &tasks});
            });
    } catch (const std::exception&) {
        // A limit on threads or memory: those that exist do the work.
    }
    size.store(static_cast<int>(others.size()) + 1, std::memory_order_release);
    run_body(body, Worker{0, static_cast<int>(others.size()) + 1, &barrier, &tasks});
    for (auto& thread : others) thread.join();
}

}  // namespace deconvseg
