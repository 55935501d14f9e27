// Deformable upsampling on a CPU, forward and backward: C functions, called from native.py.
// Features are copied into rows of channels, so that each neighbour of a sample is contiguous in memory. The gradient
// of the features is divided among the threads by input pixel, and each pixel sums its terms in the order of the
// output, so no result depends on the number of threads.

#include "interface.h"
#include "parallel.h"
#include "positions.h"
#include "rows.h"

namespace deconvseg::upsample {
namespace {

// Pixels that are copied into rows at a time.
constexpr int64_t kChunk = 256;

// Fewer threads where starting a thread costs more than its share of the work.
int64_t worthwhile(int64_t threads, int64_t work) {
    const int64_t most = work / 65536 + 1;
    return threads < most ? threads : most;
}

// One block of rows for every worker, allocated before the team starts.
struct Scratch {
    int64_t floats;
    Buffer buffer;
    Scratch(int64_t threads, int64_t width) : floats(kBlock * width), buffer(threads * floats) {}
    float* of(const Worker& worker) const { return buffer + worker.index * floats; }
};

template <int Axes>
void features_to_rows(const Worker& worker, const Problem<Axes>& problem, const float* features, Layout layout,
                      float* rows) {
    const int64_t chunks = (problem.pixels + kChunk - 1) / kChunk, width = padded(problem.channels);
    worker.share(problem.batch * chunks, [&](int64_t task) {
        const int64_t sample = task / chunks, first = task % chunks * kChunk;
        const int64_t count = problem.pixels - first < kChunk ? problem.pixels - first : kChunk;
        to_rows(rows + (sample * problem.pixels + first) * width,
                features + sample * problem.pixels * problem.channels + first * layout.pixel, layout, count,
                problem.channels);
    });
}

template <int Axes>
void forward(const Problem<Axes>& problem, const float* features, Layout from, float* out, Layout to, int64_t threads) {
    const int64_t width = padded(problem.channels);
    const Buffer rows(problem.batch * problem.pixels * width);
    const Scratch scratch(threads, width);
    prefer_large_pages(out, problem.batch * problem.positions * problem.channels * sizeof(float));
    run_team(threads, [&](const Worker& worker) {
        features_to_rows(worker, problem, features, from, rows);
        worker.meet();
        float* sampled = scratch.of(worker);
        worker.share(problem.blocks, [&](int64_t index) {
            const Block<Axes> block(problem, index);
            Samples<Axes> samples;
            locate(problem, block, samples);
            const float* sample = rows + block.sample * problem.pixels * width;
            for (int i = 0; i < block.count; ++i) {
                int64_t pixel[1 << Axes];
                float share[1 << Axes];
                corners(samples, i, pixel, share);
                for (int64_t c = 0; c < width; c += kLanes) {
                    vec sum{};
#pragma GCC unroll 8
                    for (int corner = 0; corner < 1 << Axes; ++corner)
                        sum += load(sample + pixel[corner] * width + c) * splat(share[corner]);
                    store(sampled + i * width + c, sum);
                }
            }
            from_rows(out + block.sample * problem.positions * problem.channels + block.begin * to.pixel, sampled, to,
                      block.count, problem.channels);
        });
    });
}

// Derivative of a neighbour's share with respect to the sample's position on one axis.
template <int Axes>
DECONVSEG_INLINE float slope(const Samples<Axes>& samples, int i, int corner, int along) {
    float product = corner >> (Axes - 1 - along) & 1 ? 1.0f : -1.0f;
#pragma GCC unroll 3
    for (int axis = 0; axis < Axes; ++axis) {
        const float part = samples.fraction[axis][i];
        if (axis != along) product *= corner >> (Axes - 1 - axis) & 1 ? part : 1.0f - part;
    }
    return product;
}

// Gradients of the offsets and weights of one block; `grad` and `sample` are rows.
template <int Axes>
void move_gradients(const Problem<Axes>& problem, const Block<Axes>& block, const Samples<Axes>& samples,
                    const float* grad, const float* sample, float* grad_offsets, float* grad_weights) {
    const int64_t width = padded(problem.channels);
    for (int i = 0; i < block.count; ++i) {
        int64_t pixel[1 << Axes];
        float share[1 << Axes];
        corners(samples, i, pixel, share);
        vec products[1 << Axes] = {};
        for (int64_t c = 0; c < width; c += kLanes) {
            const vec along = load(grad + i * width + c);
#pragma GCC unroll 8
            for (int corner = 0; corner < 1 << Axes; ++corner)
                products[corner] += load(sample + pixel[corner] * width + c) * along;
        }
#pragma GCC unroll 3
        for (int axis = 0; axis < Axes; ++axis) {
            vec sum{};
#pragma GCC unroll 8
            for (int corner = 0; corner < 1 << Axes; ++corner)
                sum += products[corner] * splat(slope(samples, i, corner, axis));
            const float total = sum_of(sum, kAllLanes);
            const float move = samples.inside[axis][i] ? total * static_cast<float>(problem.factor[axis]) : 0.0f;
            const int64_t at = moves_at(problem, block, axis) + i;
            grad_offsets[at] = problem.weights ? move * problem.weights[at] : move;
            if (problem.weights) grad_weights[at] = move * problem.offsets[at];
        }
    }
}

// Range of pixels, numbered through the batch, whose gradients a block contributes to.
struct Reach {
    int64_t first, last;
};

template <int Axes>
Reach reach_of(const Problem<Axes>& problem, const Block<Axes>& block, const Samples<Axes>& samples) {
    int32_t first = samples.lower[0], last = 0;
    for (int i = 0; i < block.count; ++i) {
        int32_t upper = samples.lower[i];
        for (int axis = 0; axis < Axes; ++axis) upper += samples.step[axis][i];
        first = samples.lower[i] < first ? samples.lower[i] : first;
        last = upper > last ? upper : last;
    }
    return {block.sample * problem.pixels + first, block.sample * problem.pixels + last};
}

// Add a block's terms to the gradients of the features for the pixels begin <= pixel < end.
template <int Axes>
void add_to_features(const Problem<Axes>& problem, const Block<Axes>& block, const Samples<Axes>& samples,
                     const float* grad, float* sums, int64_t begin, int64_t end) {
    const int64_t width = padded(problem.channels);
    for (int i = 0; i < block.count; ++i) {
        int64_t pixel[1 << Axes];
        float share[1 << Axes];
        corners(samples, i, pixel, share);
        for (int corner = 0; corner < 1 << Axes; ++corner) {
            const int64_t at = block.sample * problem.pixels + pixel[corner];
            if (at < begin || at >= end) continue;
            for (int64_t c = 0; c < width; c += kLanes)
                store(sums + at * width + c,
                      load(sums + at * width + c) + load(grad + i * width + c) * splat(share[corner]));
        }
    }
}

struct Gradients {
    float* features;
    float* offsets;
    float* weights;
};

template <int Axes>
void backward(const Problem<Axes>& problem, const float* grad, Layout grad_layout, const float* features, Layout layout,
              const Gradients& result, int64_t threads) {
    const int64_t width = padded(problem.channels), pixels = problem.batch * problem.pixels;
    const Buffer rows(pixels * width), sums(pixels * width);
    const Scratch scratch(threads, width);
    std::vector<Reach> reach(problem.blocks);
    run_team(threads, [&](const Worker& worker) {
        float* grad_rows = scratch.of(worker);
        const auto read = [&](const Block<Axes>& block) {
            const int64_t begin = block.sample * problem.positions * problem.channels + block.begin * grad_layout.pixel;
            to_rows(grad_rows, grad + begin, grad_layout, block.count, problem.channels);
        };
        features_to_rows(worker, problem, features, layout, rows);
        worker.meet();
        worker.share(problem.blocks, [&](int64_t index) {
            const Block<Axes> block(problem, index);
            Samples<Axes> samples;
            locate(problem, block, samples);
            read(block);
            move_gradients(problem, block, samples, grad_rows, rows + block.sample * problem.pixels * width,
                           result.offsets, result.weights);
            reach[index] = reach_of(problem, block, samples);
        });
        worker.meet();
        const int64_t begin = pixels * worker.index / worker.count, end = pixels * (worker.index + 1) / worker.count;
        std::memset(sums + begin * width, 0, (end - begin) * width * sizeof(float));
        for (int64_t index = 0; index < problem.blocks; ++index) {
            if (reach[index].last < begin || reach[index].first >= end) continue;
            const Block<Axes> block(problem, index);
            Samples<Axes> samples;
            locate(problem, block, samples);
            read(block);
            add_to_features(problem, block, samples, grad_rows, sums, begin, end);
        }
        for (int64_t pixel = begin; pixel < end;) {
            const int64_t sample = pixel / problem.pixels, next = (sample + 1) * problem.pixels;
            const int64_t count = (next < end ? next : end) - pixel;
            from_rows(result.features + sample * problem.pixels * problem.channels +
                          (pixel - sample * problem.pixels) * layout.pixel,
                      sums + pixel * width, layout, count, problem.channels);
            pixel += count;
        }
    });
}

template <class Call>
int with_axes(int64_t axes, Call call) {
    return guarded([&] {
        if (axes == 2)
            call(std::integral_constant<int, 2>{});
        else
            call(std::integral_constant<int, 3>{});
    });
}

}  // namespace
}  // namespace deconvseg::upsample

using namespace deconvseg::upsample;

// features (batch, channels, *size) and out (batch, channels, *scaled) are dense within a sample with the strides
// {channel, pixel}; offsets and weights (may be null) are contiguous; factor is the shift in pixels of a unit offset on
// each axis. Returns 0, or 1 if memory ran out.
extern "C" int deconvseg_deformable_upsample(const float* features, const int64_t* features_layout,
                                             const float* offsets, const float* weights, float* out,
                                             const int64_t* out_layout, int64_t batch, int64_t channels, int64_t axes,
                                             const int64_t* size, const int64_t* scaled, const double* factor,
                                             int64_t threads) {
    return with_axes(axes, [&](auto dims) {
        const Problem<decltype(dims)::value> problem(batch, channels, size, scaled, factor, offsets, weights);
        forward(problem, features, {features_layout[0], features_layout[1]}, out, {out_layout[0], out_layout[1]},
                worthwhile(threads, batch * problem.positions * channels));
    });
}

// Gradients of features (in their layout), offsets and weights (null if `weights` is) from the gradient of out.
extern "C" int deconvseg_deformable_upsample_backward(const float* grad, const int64_t* grad_layout,
                                                      const float* features, const int64_t* features_layout,
                                                      const float* offsets, const float* weights, float* grad_features,
                                                      float* grad_offsets, float* grad_weights, int64_t batch,
                                                      int64_t channels, int64_t axes, const int64_t* size,
                                                      const int64_t* scaled, const double* factor, int64_t threads) {
    return with_axes(axes, [&](auto dims) {
        const Problem<decltype(dims)::value> problem(batch, channels, size, scaled, factor, offsets, weights);
        backward(problem, grad, {grad_layout[0], grad_layout[1]}, features, {features_layout[0], features_layout[1]},
                 {grad_features, grad_offsets, grad_weights}, worthwhile(threads, batch * problem.positions * channels));
    });
}
