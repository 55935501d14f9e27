// What the forward and the backward pass of the selective scan share: how the work is cut, and a chunk's numbers.
//
// The N states of a channel lie in the lanes of V vectors, so that b and c are read as they are for all channels, and
// the rows of u, delta and the rest along time stay as they are in memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "exp.h"
#include "parallel.h"
#include "rows.h"

namespace deconvseg::scan {

constexpr int64_t kChunk = 256;  // steps from one kept state to the next, as in inputs.py; b and c of a chunk fit the first cache
constexpr int64_t kBlock = 8;    // channels whose gradients of b and c are summed first
constexpr int kTogether = kLanes == 16 ? 4 : 2;  // steps whose exponentials are computed side by side

struct Problem {
    int64_t batch, channels, groups, states, steps;
    bool softplus;
    const float *u, *delta, *b, *c, *gate, *a, *skip, *bias;  // gate, skip and bias may be null

    int64_t chunks() const { return (steps + kChunk - 1) / kChunk; }
    int64_t group_size() const { return channels / groups; }
    int64_t blocks() const { return (group_size() + kBlock - 1) / kBlock; }  // of a group
};

// Some channels of one group of one sample; channels count through the batch, groups too.
struct Task {
    int64_t group, channel, count;
};

// Cuts the work into tasks of whole blocks: as large as leaves every thread a few, because each reads all of b and c.
class Partition {
  public:
    Partition(const Problem& problem, int64_t threads) : problem_(problem) {
        constexpr int64_t tasks_each = 3, most = 8;
        const int64_t blocks = problem.batch * problem.groups * problem.blocks() / (tasks_each * threads);
        size_ = std::max<int64_t>(1, std::min({blocks, most, problem.blocks()})) * kBlock;
        of_group_ = (problem.group_size() + size_ - 1) / size_;
    }

    int64_t tasks() const { return problem_.batch * problem_.groups * of_group_; }
    int64_t size() const { return size_; }

    Task operator[](int64_t index) const {
        const int64_t group = index / of_group_, first = index % of_group_ * size_;
        return {group, group * problem_.group_size() + first, std::min(size_, problem_.group_size() - first)};
    }

  private:
    const Problem& problem_;
    int64_t size_, of_group_;
};

// Some steps; `padded` to whole vectors.
struct Steps {
    int64_t first, count, padded;

    Steps(const Problem& problem, int64_t chunk)
        : first(chunk * kChunk),
          count(std::min(kChunk, problem.steps - first)),
          padded((count + kLanes - 1) / kLanes * kLanes) {}
};

// Bring b or c of a chunk, (N, L), to [step][state], zero where there is none.
inline void load_tile(float* tile, const float* from, const Problem& problem, int64_t group, const Steps& steps) {
    const int64_t width = padded(problem.states);
    to_rows(tile, from + group * problem.states * problem.steps + steps.first, {problem.steps, 1}, steps.count,
            problem.states);
    std::fill(tile + steps.count * width, tile + steps.padded * width, 0.0f);
}

// delta, as it is used, and delta * u of one channel in one chunk, zero beyond its end.
struct Inputs {
    alignas(64) float delta[kChunk], weighted[kChunk];

    void load(const Problem& problem, int64_t channel, const Steps& steps) {
        const float *from = problem.delta + channel * problem.steps + steps.first,
                    *u = problem.u + channel * problem.steps + steps.first;
        const vec bias = splat(problem.bias ? problem.bias[channel % problem.channels] : 0.0f);
        for (int64_t t = 0; t < steps.padded; t += kLanes) {
            vec value = load_some(from + t, steps.count - t) + bias;
            if (problem.softplus) value = deconvseg::softplus(value);
            store(delta + t, value);
            store(weighted + t, value * load_some(u + t, steps.count - t));
        }
        std::fill(delta + steps.count, delta + steps.padded, 0.0f);
    }
};

// The decay of the states of one channel.
template <int V>
struct Decay {
    vec a[V];

    Decay(const Problem& problem, int64_t channel) {
        const float* from = problem.a + channel % problem.channels * problem.states;
        for (int v = 0; v < V; ++v) a[v] = load_some(from + v * kLanes, problem.states - v * kLanes);
    }
};

}  // namespace deconvseg::scan
