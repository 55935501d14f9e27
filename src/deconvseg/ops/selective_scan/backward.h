// The gradients of the scan, in rounds of chunks from the last to the first. The states of a chunk are recomputed from
// the state before it; then the gradient of the state is propagated backwards through them.
#pragma once

#include "forward.h"

namespace deconvseg::scan {

constexpr int64_t kRound = 4;  // chunks between two meetings of the workers

struct Gradients {
    float *u, *delta, *b, *c, *gate, *a, *skip, *bias;  // gate, skip and bias may be null
};

// A compensated sum over many chunks (Kahan), with the rounding error in `lost`.
struct Sum {
    vec value, lost;

    void add(vec more) {
        more -= lost;
        const vec total = value + more;
        lost = total - value - more;
        value = total;
    }
};

// Values of one channel that are carried from chunk to chunk.
template <int V>
struct Carried {
    vec state[V];          // exp(delta[t+1] a) times the gradient of h[t+1]
    Sum a[V], skip, bias;  // sums over time; skip and bias per lane
};

// Scratch memory of one worker; a row of states has V vectors.
template <int V>
struct Scratch {
    static constexpr int64_t kRow = V * kLanes, kTile = kChunk * kRow;
    alignas(64) float b[kTile], c[kTile];
    alignas(64) float decay[kTile], state[kTile + kRow];  // exp(delta[t] a), and h before and after every step
    Inputs inputs;
    alignas(64) float y[kChunk], of_y[kChunk], of_weighted[kChunk], of_exponent[kChunk];
};

// Recompute the states of a chunk from the state before it and, if the gate needs it, y.
template <int V>
void scan_again(const Problem& problem, const float* before, const Decay<V>& decay, const Steps& steps,
                Scratch<V>& scratch) {
    vec h[V];
    for (int v = 0; v < V; ++v) {
        h[v] = load_some(before + v * kLanes, problem.states - v * kLanes);
        store(scratch.state + v * kLanes, h[v]);
    }
    scan_chunk<V>(scratch.inputs, decay, scratch.b, scratch.c, steps, h, problem.gate ? scratch.y : nullptr,
                  [&](int64_t at, vec factor, vec state) {
                      store(scratch.decay + at, factor);
                      store(scratch.state + at + V * kLanes, state);
                  });
}

// Gradients of y, gate and skip from the gradient of the result.
template <int V>
void open_chunk(const Problem& problem, int64_t channel, const Steps& steps, const float* grad, Scratch<V>& scratch,
                Carried<V>& carried, const Gradients& results) {
    const int64_t row = channel * problem.steps + steps.first;
    const vec skip = splat(problem.skip ? problem.skip[channel % problem.channels] : 0.0f);
    vec of_skip{};
    for (int64_t t = 0; t < steps.padded; t += kLanes) {
        const int64_t left = steps.count - t;
        const vec u = load_some(problem.u + row + t, left);
        vec of_y = load_some(grad + row + t, left);
        if (problem.gate) {
            const vec gate = load_some(problem.gate + row + t, left);
            const Logistic share = logistic(gate);
            const vec y = load(scratch.y + t) + skip * u;
            store_some(results.gate + row + t, of_y * y * share.value * (1.0f + gate * share.rest), left);
            of_y *= gate * share.value;
        }
        store(scratch.of_y + t, of_y);
        of_skip += of_y * u;
    }
    carried.skip.add(of_skip);
}

// Propagate the gradient of the state backwards through a chunk; of_b and of_c are [step][state].
template <int V>
void scan_back(Scratch<V>& scratch, const Decay<V>& decay, const Steps& steps, Carried<V>& carried, float* of_b,
               float* of_c) {
    vec g[V], of_a[V] = {};
    for (int v = 0; v < V; ++v) g[v] = carried.state[v];
    for (int64_t t = steps.padded - kLanes; t >= 0; t -= kLanes) {
        vec inputs[kLanes], exponents[kLanes], part[V] = {};  // of of_a: partial sums reduce rounding errors
        for (int i = kLanes - 1; i >= 0; --i) {
            const vec delta = splat(scratch.inputs.delta[t + i]), weighted = splat(scratch.inputs.weighted[t + i]);
            const vec of_y = splat(scratch.of_y[t + i]);
            vec input{}, exponent{};
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                const int64_t at = ((t + i) * V + v) * kLanes;
                store(of_c + at, load(of_c + at) + of_y * load(scratch.state + at + V * kLanes));
                g[v] += of_y * load(scratch.c + at);
                store(of_b + at, load(of_b + at) + weighted * g[v]);
                input += g[v] * load(scratch.b + at);
                g[v] *= load(scratch.decay + at);
                const vec of_exponent = g[v] * load(scratch.state + at);
                part[v] += delta * of_exponent;
                exponent += decay.a[v] * of_exponent;
            }
            inputs[i] = input, exponents[i] = exponent;
        }
        for (int v = 0; v < V; ++v) of_a[v] += part[v];
        store(scratch.of_weighted + t, sums_of(inputs));
        store(scratch.of_exponent + t, sums_of(exponents));
    }
    for (int v = 0; v < V; ++v) carried.state[v] = g[v], carried.a[v].add(of_a[v]);
}

// Gradients of u, delta and the bias of delta.
template <int V>
void close_chunk(const Problem& problem, int64_t channel, const Steps& steps, const Scratch<V>& scratch,
                 Carried<V>& carried, const Gradients& results) {
    const int64_t row = channel * problem.steps + steps.first;
    const vec skip = splat(problem.skip ? problem.skip[channel % problem.channels] : 0.0f);
    const vec bias = splat(problem.bias ? problem.bias[channel % problem.channels] : 0.0f);
    vec of_bias{};
    for (int64_t t = 0; t < steps.count; t += kLanes) {
        const int64_t left = steps.count - t;
        const vec of_weighted = load(scratch.of_weighted + t), delta = load(scratch.inputs.delta + t);
        store_some(results.u + row + t, delta * of_weighted + skip * load(scratch.of_y + t), left);
        vec of_delta = load_some(problem.u + row + t, left) * of_weighted + load(scratch.of_exponent + t);
        if (problem.softplus) {
            const Logistic slope = logistic(load_some(problem.delta + row + t, left) + bias);
            of_delta *= slope.value;
        }
        store_some(results.delta + row + t, of_delta, left);
        of_bias += of_delta;
    }
    carried.bias.add(of_bias);
}

// Contributions of the blocks of channels to the gradients of b and c in a round: [block][b, c][step][state].
template <int V>
struct Shares {
    static constexpr int64_t kRow = V * kLanes, kFloats = kRound * kChunk * kRow;
    float* data;

    float* of(int64_t block, int64_t chunk, int which) const {
        return data + (block * 2 + which) * kFloats + chunk % kRound * kChunk * kRow;
    }
};

template <int V>
void back_task(const Problem& problem, const Task& task, int64_t first, int64_t last, const float* grad,
               const float* states, Scratch<V>& scratch, Carried<V>* carried, const Shares<V>& shares,
               const Gradients& results) {
    for (int64_t chunk = last - 1; chunk >= first; --chunk) {
        const Steps steps(problem, chunk);
        load_tile(scratch.b, problem.b, problem, task.group, steps);
        load_tile(scratch.c, problem.c, problem, task.group, steps);
        for (int64_t channel = task.channel; channel < task.channel + task.count; ++channel) {
            const int64_t place = channel - task.group * problem.group_size();
            const int64_t block = task.group * problem.blocks() + place / kBlock;
            float *of_b = shares.of(block, chunk, 0), *of_c = shares.of(block, chunk, 1);
            if (place % kBlock == 0)
                for (float* share : {of_b, of_c}) std::fill(share, share + steps.padded * shares.kRow, 0.0f);
            const Decay<V> decay(problem, channel);
            scratch.inputs.load(problem, channel, steps);
            const float* before = states + (channel * problem.chunks() + chunk) * problem.states;
            scan_again<V>(problem, before, decay, steps, scratch);
            open_chunk<V>(problem, channel, steps, grad, scratch, carried[channel], results);
            scan_back<V>(scratch, decay, steps, carried[channel], of_b, of_c);
            close_chunk<V>(problem, channel, steps, scratch, carried[channel], results);
        }
    }
}

// Sum the contributions of a group's blocks, in order, and transpose the sums to (N, L).
template <int V>
void add_shares(const Problem& problem, int64_t group, int64_t chunk, const Shares<V>& shares,
                const Gradients& results) {
    const Steps steps(problem, chunk);
    const int64_t first = group * problem.blocks(), at = group * problem.states * problem.steps + steps.first;
    for (int which = 0; which < 2; ++which) {
        float* sum = shares.of(first, chunk, which);
        for (int64_t block = 1; block < problem.blocks(); ++block) {
            const float* more = shares.of(first + block, chunk, which);
            for (int64_t i = 0; i < steps.count * shares.kRow; i += kLanes)
                store(sum + i, load(sum + i) + load(more + i));
        }
        from_rows((which ? results.c : results.b) + at, sum, {problem.steps, 1}, steps.count, problem.states);
    }
}

// Gradients of the parameters of one channel, summed over the batch.
template <int V>
void add_parameters(const Problem& problem, int64_t channel, const Carried<V>* carried, const Gradients& results) {
    double a[V * kLanes] = {}, skip = 0, bias = 0;
    for (int64_t sample = 0; sample < problem.batch; ++sample) {
        const Carried<V>& of_sample = carried[sample * problem.channels + channel];
        for (int lane = 0; lane < kLanes; ++lane) {
            for (int v = 0; v < V; ++v) a[v * kLanes + lane] += of_sample.a[v].value[lane];
            skip += of_sample.skip.value[lane];
            bias += of_sample.bias.value[lane];
        }
    }
    for (int64_t n = 0; n < problem.states; ++n)
        results.a[channel * problem.states + n] = static_cast<float>(a[n]);
    if (results.skip) results.skip[channel] = static_cast<float>(skip);
    if (results.bias) results.bias[channel] = static_cast<float>(bias);
}

template <int V>
void backward(const Problem& problem, const float* grad, const float* states, const Gradients& results,
              int64_t threads) {
    const Partition partition(problem, threads);
    const int64_t channels = problem.batch * problem.channels, groups = problem.batch * problem.groups;
    const Buffer scratch_memory(threads * sizeof(Scratch<V>) / sizeof(float));
    const Buffer carried_memory(channels * sizeof(Carried<V>) / sizeof(float));
    // Two buffers, so that the workers can sum one while they fill the other.
    const int64_t share = groups * problem.blocks() * 2 * Shares<V>::kFloats;
    const Buffer shares_memory(2 * share);
    auto* carried = reinterpret_cast<Carried<V>*>(static_cast<float*>(carried_memory));
    std::fill(carried, carried + channels, Carried<V>{});
    run_team(threads, [&](const Worker& worker) {
        auto& scratch = reinterpret_cast<Scratch<V>*>(static_cast<float*>(scratch_memory))[worker.index];
        const int64_t rounds = (problem.chunks() + kRound - 1) / kRound;
        for (int64_t round = rounds - 1; round >= 0; --round) {
            const Shares<V> here{shares_memory + round % 2 * share};
            const int64_t first = round * kRound, last = std::min(first + kRound, problem.chunks());
            worker.share(partition.tasks(), [&](int64_t task) {
                back_task<V>(problem, partition[task], first, last, grad, states, scratch, carried, here, results);
            });
            worker.meet();
            worker.share(groups * (last - first), [&](int64_t i) {
                add_shares<V>(problem, i / (last - first), first + i % (last - first), here, results);
            });
        }
        worker.share(problem.channels, [&](int64_t channel) { add_parameters<V>(problem, channel, carried, results); });
    });
}

}  // namespace deconvseg::scan
