// h[t] = exp(delta[t] a) h[t-1] + delta[t] b[t] u[t] and y[t] = <c[t], h[t]>, chunk by chunk.
#pragma once

#include "scan.h"

namespace deconvseg::scan {

// Advance the states h of one channel through a chunk. `keep(at, decay, state)` is called for every step; y, if not
// null, receives `padded` values.
template <int V, class Keep>
DECONVSEG_INLINE void scan_chunk(const Inputs& inputs, const Decay<V>& decay, const float* b, const float* c,
                                 const Steps& steps, vec (&h)[V], float* y, Keep keep) {
    for (int64_t t = 0; t < steps.padded; t += kLanes) {
        vec terms[kLanes];
        for (int i = 0; i < kLanes; i += kTogether) {
            vec decays[kTogether * V];
#pragma GCC unroll 4
            for (int k = 0; k < kTogether; ++k)
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) decays[k * V + v] = splat(inputs.delta[t + i + k]) * decay.a[v];
            exp(decays);
#pragma GCC unroll 4
            for (int k = 0; k < kTogether; ++k) {
                const int64_t step = t + i + k;
                const vec weighted = splat(inputs.weighted[step]);
                vec term{};
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) {
                    const int64_t at = (step * V + v) * kLanes;
                    h[v] = decays[k * V + v] * h[v] + weighted * load(b + at);
                    keep(at, decays[k * V + v], h[v]);
                    term += h[v] * load(c + at);
                }
                terms[i + k] = term;
            }
        }
        if (y) store(y + t, sums_of(terms));
    }
}

// out = (y + skip u) silu(gate).
inline void finish_chunk(const Problem& problem, int64_t channel, const Steps& steps, const float* y, float* out) {
    const int64_t at = channel * problem.steps + steps.first;
    const vec skip = splat(problem.skip ? problem.skip[channel % problem.channels] : 0.0f);
    for (int64_t t = 0; t < steps.count; t += kLanes) {
        vec value = load(y + t);
        if (problem.skip) value += skip * load_some(problem.u + at + t, steps.count - t);
        if (problem.gate) {
            const vec gate = load_some(problem.gate + at + t, steps.count - t);
            const Logistic share = logistic(gate);
            value *= gate * share.value;
        }
        store_some(out + at + t, value, steps.count - t);
    }
}

inline void keep_state(const Problem& problem, int64_t channel, int64_t chunk, const float* state, float* states) {
    float* to = states + (channel * problem.chunks() + chunk) * problem.states;
    std::copy(state, state + problem.states, to);
}

// `states`, if not null, receives the states before every chunk, (batch, channels, chunks, N).
template <int V>
void forward(const Problem& problem, float* out, float* states, int64_t threads) {
    constexpr int64_t width = V * kLanes, tile = kChunk * width;
    const Partition partition(problem, threads);
    const int64_t share = 2 * tile + partition.size() * width + kChunk;
    const Buffer scratch(threads * share);
    run_team(threads, [&](const Worker& worker) {
        float *b = scratch + worker.index * share, *c = b + tile, *state = c + tile, *y = state + partition.size() * width;
        worker.share(partition.tasks(), [&](int64_t index) {
            const Task task = partition[index];
            std::fill(state, y, 0.0f);
            for (int64_t chunk = 0; chunk < problem.chunks(); ++chunk) {
                const Steps steps(problem, chunk);
                load_tile(b, problem.b, problem, task.group, steps);
                load_tile(c, problem.c, problem, task.group, steps);
                for (int64_t i = 0; i < task.count; ++i) {
                    const int64_t channel = task.channel + i;
                    if (states) keep_state(problem, channel, chunk, state + i * width, states);
                    Inputs inputs;
                    inputs.load(problem, channel, steps);
                    vec h[V];
                    for (int v = 0; v < V; ++v) h[v] = load(state + i * width + v * kLanes);
                    scan_chunk<V>(inputs, Decay<V>(problem, channel), b, c, steps, h, y, [](int64_t, vec, vec) {});
                    for (int v = 0; v < V; ++v) store(state + i * width + v * kLanes, h[v]);
                    finish_chunk(problem, channel, steps, y, out);
                }
            }
        });
    });
}

}  // namespace deconvseg::scan
