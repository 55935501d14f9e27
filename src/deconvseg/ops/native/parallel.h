// Threads and memory of one call: made when it begins, gone when it ends, so that a fork finds nothing half alive.
#pragma once

#include <atomic>
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

// Where the workers of a team wait for each other.
class Barrier {
  public:
    void wait(int count) {
        const int turn = turn_.load(std::memory_order_acquire);
        if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
            arrived_.store(0, std::memory_order_relaxed);
            turn_.store(turn + 1, std::memory_order_release);
            return;
        }
        // Spin for a moment, as steps are short; then let others run, as a core may be shared.
        for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
            if (spins > 4000) std::this_thread::yield();
    }

  private:
    std::atomic<int> arrived_{0}, turn_{0};
};

// Tasks of the steps of a team: each worker has its own range of them, and helps the others when it is through, so that
// neighbours stay in one processor's cache and yet a worker that the system holds up does not hold up the others for long.
class Tasks {
  public:
    explicit Tasks(int workers) : workers_(workers), counters_(kCounters * workers) {}

    // How many tasks of that worker's range were taken before this one. A counter serves many steps, one after the other:
    // its upper half says which one it counts for.
    int64_t next(uint32_t step, int worker) {
        std::atomic<uint64_t>& counter = counters_[step % kCounters * workers_ + worker].value;
        uint64_t seen = counter.load(std::memory_order_relaxed), taken;
        do {
            taken = seen >> 32 == step ? seen & 0xffffffffu : 0;
        } while (!counter.compare_exchange_weak(seen, uint64_t{step} << 32 | (taken + 1), std::memory_order_relaxed));
        return static_cast<int64_t>(taken);
    }

  private:
    struct alignas(64) Counter {
        std::atomic<uint64_t> value{0};
    };
    // More than the steps that may lie between two meetings.
    static constexpr uint32_t kCounters = 64;
    int workers_;
    std::vector<Counter> counters_;
};

// One worker of a team: which one it is of how many, the meeting point, and the tasks to share.
struct Worker {
    int index, count;
    Barrier* barrier;
    Tasks* tasks;
    mutable uint32_t step = 0;

    // Wait until every worker of the team is here.
    void meet() const {
        if (count > 1) barrier->wait(count);
    }

    // Call task(i) for 0 <= i < number, each by one of the workers; no waiting. All workers share the same steps in order.
    template <class Task>
    void share(int64_t number, Task task) const {
        if (count == 1) {
            for (int64_t i = 0; i < number; ++i) task(i);
            return;
        }
        ++step;
        for (int turn = 0; turn < count; ++turn) {
            const int owner = (index + turn) % count;
            const int64_t begin = number * owner / count, end = number * (owner + 1) / count;
            for (int64_t i = begin + tasks->next(step, owner); i < end; i = begin + tasks->next(step, owner)) task(i);
        }
    }
};

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
                body(Worker{index, size.load(std::memory_order_relaxed), &barrier, &tasks});
            });
    } catch (const std::exception&) {
        // A limit on threads or memory: those that exist do the work.
    }
    size.store(static_cast<int>(others.size()) + 1, std::memory_order_release);
    body(Worker{0, static_cast<int>(others.size()) + 1, &barrier, &tasks});
    for (auto& thread : others) thread.join();
}

// Call what returns nothing and may run out of memory, for C: 0, or 1 where it did.
template <class Call>
int guarded(Call call) {
    try {
        call();
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

}  // namespace deconvseg
