// Instance normalisation: mean and variance of each channel of each sample, then one linear map per channel.
// Statistics are computed chunk by chunk, in two passes while the chunk is in the L1 cache, and combined in double
// precision. Main memory is read twice and written once, and the result does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "lanes.h"
#include "matmul.h"
#include "parallel.h"

namespace deconvseg {

DECONVSEG_INLINE float widened(float value) { return value; }

constexpr int64_t kChunk = 8192;  // elements per task: 32 KB in float32
constexpr int kChains = 4;        // independent sums, because an addition has a longer latency than a load

struct NormShape {
    int64_t batch, channels, positions, channels_last, threads;
};

// Moments of a channel in a chunk, and the map that normalises a value: (x - mean - rest) * scale + shift.
struct Moments {
    double mean, squares;
};
struct Map {
    float mean, rest, scale, shift;
};

// Images of type T; the parameters, the statistics and the arithmetic are float32.
template <class T>
struct Norm {
    const T* x;
    const float *weight, *bias;
    T* out;
    float eps, slope;
};

DECONVSEG_INLINE float activate(float value, float slope) { return value < 0.0f ? value * slope : value; }
DECONVSEG_INLINE vec activate(vec value, vec slope) { return value < 0.0f ? value * slope : value; }

// Moments of `count` contiguous values.
template <class T>
Moments moments_of_run(const T* x, int64_t count) {
    // Whether near the mean or not, the differences do not exceed the range of the values.
    const float pivot = widened(x[0]);
    const int64_t whole = count / (kChains * kLanes) * (kChains * kLanes);
    vec sums[kChains] = {}, squares[kChains] = {};
    for (int64_t i = 0; i < whole; i += kChains * kLanes)
        for (int j = 0; j < kChains; ++j) sums[j] += load(x + i + j * kLanes) - pivot;
    double sum = sum_in_order((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (int64_t i = whole; i < count; ++i) sum += widened(x[i]) - pivot;
    const double offset = sum / count;
    const float near = static_cast<float>(offset);
    for (int64_t i = 0; i < whole; i += kChains * kLanes)
        for (int j = 0; j < kChains; ++j) {
            const vec difference = load(x + i + j * kLanes) - pivot - near;
            squares[j] += difference * difference;
        }
    double square = sum_in_order((squares[0] + squares[1]) + (squares[2] + squares[3]));
    for (int64_t i = whole; i < count; ++i) {
        const float difference = widened(x[i]) - pivot - near;
        square += double(difference) * difference;
    }
    return {pivot + offset, square};
}

// Moments of kLanes contiguous channels at `count` positions, `step` elements apart.
template <class T>
void moments_of_lanes(const T* x, int64_t count, int64_t step, Moments* moments) {
    const vec pivot = load(x);
    const int64_t whole = count / kChains * kChains;
    vec sums[kChains] = {}, squares[kChains] = {};
    for (int64_t i = 0; i < whole; i += kChains)
        for (int j = 0; j < kChains; ++j) sums[j] += load(x + (i + j) * step) - pivot;
    for (int64_t i = whole; i < count; ++i) sums[0] += load(x + i * step) - pivot;
    const vec offset = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<float>(count);
    for (int64_t i = 0; i < whole; i += kChains)
        for (int j = 0; j < kChains; ++j) {
            const vec difference = load(x + (i + j) * step) - pivot - offset;
            squares[j] += difference * difference;
        }
    for (int64_t i = whole; i < count; ++i) {
        const vec difference = load(x + i * step) - pivot - offset;
        squares[0] += difference * difference;
    }
    const vec square = (squares[0] + squares[1]) + (squares[2] + squares[3]);
    for (int lane = 0; lane < kLanes; ++lane) moments[lane] = {double(pivot[lane]) + offset[lane], square[lane]};
}

// Moments of a single channel at `count` positions, `step` elements apart.
template <class T>
Moments moments_of_channel(const T* x, int64_t count, int64_t step) {
    const float pivot = widened(x[0]);
    double sum = 0, square = 0;
    for (int64_t i = 0; i < count; ++i) sum += widened(x[i * step]) - pivot;
    const double offset = sum / count;
    for (int64_t i = 0; i < count; ++i) {
        const double difference = widened(x[i * step]) - pivot - offset;
        square += difference * difference;
    }
    return {pivot + offset, square};
}

// Combine a channel's chunks, `step` apart, into its map; all chunks but the last have `size` positions.
inline Map combine(const Moments* chunks, int64_t step, int64_t size, int64_t positions, float eps, float weight,
                   float bias) {
    Moments all = {0, 0};
    int64_t number = 0;
    for (int64_t begin = 0; begin < positions; begin += size, chunks += step) {
        const int64_t count = std::min(size, positions - begin), sum = number + count;
        const double difference = chunks->mean - all.mean;
        all.squares += chunks->squares + difference * difference * (double(number) * count / sum);
        all.mean += difference * count / sum;
        number = sum;
    }
    const float mean = static_cast<float>(all.mean);
    const double scale = weight / std::sqrt(all.squares / positions + eps);
    return {mean, static_cast<float>(all.mean - mean), static_cast<float>(scale), bias};
}

template <class T>
void map_run(const T* x, T* out, int64_t count, const Map& map, float slope) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        store(out + i, activate((load(x + i) - map.mean - map.rest) * map.scale + map.shift, splat(slope)));
    for (; i < count; ++i)
        out[i] = Operands<T>::stored(activate((widened(x[i]) - map.mean - map.rest) * map.scale + map.shift, slope));
}

template <class T>
void map_lanes(const T* x, T* out, int64_t count, int64_t step, const Map* maps, float slope) {
    vec mean, rest, scale, shift;
    for (int lane = 0; lane < kLanes; ++lane) {
        mean[lane] = maps[lane].mean, rest[lane] = maps[lane].rest;
        scale[lane] = maps[lane].scale, shift[lane] = maps[lane].shift;
    }
    for (int64_t i = 0; i < count; ++i)
        store(out + i * step, activate((load(x + i * step) - mean - rest) * scale + shift, splat(slope)));
}

template <class T>
void normalise(const NormShape& shape, const Norm<T>& norm) {
    const int64_t channels = shape.channels, positions = shape.positions;
    const bool last = shape.channels_last;
    const int64_t size = last ? std::max<int64_t>(1, kChunk / channels) : kChunk;  // positions per chunk
    const int64_t chunks = (positions + size - 1) / size, images = shape.batch * channels;
    const int64_t tasks = chunks * (last ? shape.batch : images);
    const int64_t lanes = channels / kLanes * kLanes;
    std::vector<Moments> moments(images * chunks);
    std::vector<Map> maps(images);
    // Chunk of a task: its first element, its number of positions, and its index among the maps.
    const auto each = [&](int64_t task, auto work) {
        const int64_t image = task / chunks, begin = task % chunks * size;
        const int64_t at = (image * positions + begin) * (last ? channels : 1);
        work(at, std::min(size, positions - begin), image * (last ? channels : 1));
    };
    run_team(shape.threads, [&](const Worker& worker) {
        worker.share(tasks, [&](int64_t task) {
            each(task, [&](int64_t at, int64_t count, int64_t) {
                const T* x = norm.x + at;
                if (!last) {
                    moments[task] = moments_of_run(x, count);
                    return;
                }
                Moments* to = moments.data() + task * channels;
                for (int64_t c = 0; c < lanes; c += kLanes) moments_of_lanes(x + c, count, channels, to + c);
                for (int64_t c = lanes; c < channels; ++c) to[c] = moments_of_channel(x + c, count, channels);
            });
        });
        worker.meet();
        worker.share(images, [&](int64_t image) {
            const int64_t channel = image % channels;
            const int64_t first = last ? image / channels * chunks * channels + channel : image * chunks;
            maps[image] = combine(moments.data() + first, last ? channels : 1, size, positions, norm.eps,
                                  norm.weight == nullptr ? 1.0f : norm.weight[channel],
                                  norm.bias == nullptr ? 0.0f : norm.bias[channel]);
        });
        worker.meet();
        worker.share(tasks, [&](int64_t task) {
            each(task, [&](int64_t at, int64_t count, int64_t image) {
                const T* x = norm.x + at;
                T* out = norm.out + at;
                const Map* map = maps.data() + image;
                if (!last) {
                    map_run(x, out, count, *map, norm.slope);
                    return;
                }
                for (int64_t c = 0; c < lanes; c += kLanes)
                    map_lanes(x + c, out + c, count, channels, map + c, norm.slope);
                for (int64_t c = lanes; c < channels; ++c)
                    for (int64_t i = 0; i < count; ++i) {
                        const float value = widened(x[i * channels + c]) - map[c].mean - map[c].rest;
                        const float result = activate(value * map[c].scale + map[c].shift, norm.slope);
                        out[i * channels + c] = Operands<T>::stored(result);
                    }
            });
        });
    });
}

}  // namespace deconvseg
