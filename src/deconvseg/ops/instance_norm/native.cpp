// Instance normalisation: mean and variance of each channel of each sample, then one linear map per channel.
// Statistics are computed chunk by chunk, in two passes while the chunk is in the L1 cache, and combined in double
// precision. Main memory is read twice and written once, and the result does not depend on the number of threads.

#include <algorithm>

#include "interface.h"
#include "lanes.h"
#include "parallel.h"

using namespace deconvseg;

namespace {

constexpr int64_t kChunk = 8192;  // floats per task: 32 KB
constexpr int kChains = 4;        // independent sums, because an addition has a longer latency than a load

struct Shape {
    int64_t batch, channels, positions, channels_last, threads;
};

// Moments of a channel in a chunk, and the map that normalises a value: (x - mean - rest) * scale + shift.
struct Moments {
    double mean, squares;
};
struct Map {
    float mean, rest, scale, shift;
};

struct Norm {
    const float *x, *weight, *bias;
    float* out;
    float eps, slope;
};

DECONVSEG_INLINE float activate(float value, float slope) { return value < 0.0f ? value * slope : value; }
DECONVSEG_INLINE vec activate(vec value, vec slope) { return value < 0.0f ? value * slope : value; }

// Moments of `count` contiguous values.
Moments moments_of_run(const float* x, int64_t count) {
    const float pivot = x[0];  // whether near the mean or not, the differences do not exceed the range of the values
    const int64_t whole = count / (kChains * kLanes) * (kChains * kLanes);
    vec sums[kChains] = {}, squares[kChains] = {};
    for (int64_t i = 0; i < whole; i += kChains * kLanes)
        for (int j = 0; j < kChains; ++j) sums[j] += load(x + i + j * kLanes) - pivot;
    double sum = sum_in_order((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (int64_t i = whole; i < count; ++i) sum += x[i] - pivot;
    const double offset = sum / count;
    const float near = static_cast<float>(offset);
    for (int64_t i = 0; i < whole; i += kChains * kLanes)
        for (int j = 0; j < kChains; ++j) {
            const vec difference = load(x + i + j * kLanes) - pivot - near;
            squares[j] += difference * difference;
        }
    double square = sum_in_order((squares[0] + squares[1]) + (squares[2] + squares[3]));
    for (int64_t i = whole; i < count; ++i) square += double(x[i] - pivot - near) * (x[i] - pivot - near);
    return {pivot + offset, square};
}

// Moments of kLanes contiguous channels at `count` positions, `step` floats apart.
void moments_of_lanes(const float* x, int64_t count, int64_t step, Moments* moments) {
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

// Moments of a single channel at `count` positions, `step` floats apart.
Moments moments_of_channel(const float* x, int64_t count, int64_t step) {
    const float pivot = x[0];
    double sum = 0, square = 0;
    for (int64_t i = 0; i < count; ++i) sum += x[i * step] - pivot;
    const double offset = sum / count;
    for (int64_t i = 0; i < count; ++i) {
        const double difference = x[i * step] - pivot - offset;
        square += difference * difference;
    }
    return {pivot + offset, square};
}

// Combine a channel's chunks, `step` apart, into its map; all chunks but the last have `size` positions.
Map combine(const Moments* chunks, int64_t step, int64_t size, int64_t positions, float eps, float weight, float bias) {
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

void map_run(const float* x, float* out, int64_t count, const Map& map, float slope) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        store(out + i, activate((load(x + i) - map.mean - map.rest) * map.scale + map.shift, splat(slope)));
    for (; i < count; ++i) out[i] = activate((x[i] - map.mean - map.rest) * map.scale + map.shift, slope);
}

void map_lanes(const float* x, float* out, int64_t count, int64_t step, const Map* maps, float slope) {
    vec mean, rest, scale, shift;
    for (int lane = 0; lane < kLanes; ++lane) {
        mean[lane] = maps[lane].mean, rest[lane] = maps[lane].rest;
        scale[lane] = maps[lane].scale, shift[lane] = maps[lane].shift;
    }
    for (int64_t i = 0; i < count; ++i)
        store(out + i * step, activate((load(x + i * step) - mean - rest) * scale + shift, splat(slope)));
}

void normalise(const Shape& shape, const Norm& norm) {
    const int64_t channels = shape.channels, positions = shape.positions;
    const bool last = shape.channels_last;
    const int64_t size = last ? std::max<int64_t>(1, kChunk / channels) : kChunk;  // positions per chunk
    const int64_t chunks = (positions + size - 1) / size, images = shape.batch * channels;
    const int64_t tasks = chunks * (last ? shape.batch : images);
    const int64_t lanes = channels / kLanes * kLanes;
    std::vector<Moments> moments(images * chunks);
    std::vector<Map> maps(images);
    // Chunk of a task: its first float, its number of positions, and its index among the maps.
    const auto each = [&](int64_t task, auto work) {
        const int64_t image = task / chunks, begin = task % chunks * size;
        work(image * positions * (last ? channels : 1) + begin * (last ? channels : 1), std::min(size, positions - begin),
             image * (last ? channels : 1));
    };
    run_team(shape.threads, [&](const Worker& worker) {
        worker.share(tasks, [&](int64_t task) {
            each(task, [&](int64_t at, int64_t count, int64_t) {
                const float* x = norm.x + at;
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
                const float* x = norm.x + at;
                float* out = norm.out + at;
                const Map* map = maps.data() + image;
                if (!last) {
                    map_run(x, out, count, *map, norm.slope);
                    return;
                }
                for (int64_t c = 0; c < lanes; c += kLanes) map_lanes(x + c, out + c, count, channels, map + c, norm.slope);
                for (int64_t c = lanes; c < channels; ++c)
                    for (int64_t i = 0; i < count; ++i) {
                        const float value = x[i * channels + c] - map[c].mean - map[c].rest;
                        out[i * channels + c] = activate(value * map[c].scale + map[c].shift, norm.slope);
                    }
            });
        });
    });
}

}  // namespace

// Images are (batch, channels, positions) or, with channels last, (batch, positions, channels); sizes are the fields of
// Shape in order; numbers are eps and the negative slope. Weight and bias may be null, and out may be x. Returns 0, or
// 1 if memory ran out.
extern "C" int deconvseg_instance_norm(const float* x, const float* weight, const float* bias, float* out,
                                       const int64_t* sizes, const float* numbers) {
    const auto shape = shape_from<Shape, 5>(sizes);
    if (out != x) prefer_large_pages(out, shape.batch * shape.channels * shape.positions * sizeof(float));
    return guarded([&] { normalise(shape, Norm{x, weight, bias, out, numbers[0], numbers[1]}); });
}
