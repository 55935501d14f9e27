// Code shared by the forward and backward passes of the selective scan: partition of the work, and data of a chunk.
// The N states of a channel are in the lanes of V vectors, so that all channels share the loaded b and c, and the rows
// of the other tensors along time need no transposition.
#pragma once

#include <algorithm>
#include <cstdint>

#include "exp.h"
#include "parallel.h"
#include "rows.h"

namespace deconvseg::scan {

constexpr int64_t kChunk = 256;  // steps between kept states, as in inputs.py; b and c of a chunk fit the L1 cache
constexpr int64_t kBlock = 8;    // channels whose gradients of b and c are summed first
constexpr int kTogether = kLanes == 16 ? 4 : 2;  // steps whose exponentials are interleaved

struct Problem {
    int64_t batch, channels, groups, states, steps;
    bool softplus;
    const float *u, *delta, *b, *c, *gate, *a, *skip, *bias;  // gate, skip and bias may be null

    int64_t chunks() const { return (steps + kChunk - 1) / kChunk; }
    int64_t group_size() const { return channels / groups; }
    int64_t blocks() const { return (group_size() + kBlock - 1) / kBlock; }  // per group
};

// Some channels of one group of one sample; channels and groups are numbered through the batch.
struct Task {
    int64_t group, channel, count;
};

// Partition into tasks of whole blocks: large, because each task reads all of b and c, but a few tasks per thread.
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

// The steps of a chunk; `padded` is their number rounded up to whole vectors.
struct Steps {
    int64_t first, count, padded;

    Steps(const Problem& problem, int64_t chunk)
        : first(chunk * kChunk),
          count(std::min(kChunk, problem.steps - first)),
          padded((count + kLanes - 1) / kLanes * kLanes) {}
};

// Transpose b or c of a chunk from (N, L) to [step][state], padded with zeros.
inline void load_tile(float* tile, const float* from, const Problem& problem, int64_t group, const Steps& steps) {
    const int64_t width = padded(problem.states);
    to_rows(tile, from + group * problem.states * problem.steps + steps.first, {problem.steps, 1}, steps.count,
            problem.states);
    std::fill(tile + steps.count * width, tile + steps.padded * width, 0.0f);
}

// delta with bias and softplus, and delta * u, of one channel in one chunk, padded with zeros.
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
