// Code shared by the passes over a Deconver block: sizes, weights, ring buffers of planes, packing, statistics.
#pragma once

#include <algorithm>
#include <vector>

#include "matmul.h"
#include "parallel.h"

namespace deconvseg::block {

// Largest number of planes of a kernel.
constexpr int64_t kDepthTaps = 15;

// Sizes of one call; the missing axes of 1D and 2D images have size 1, and are placed outside the innermost loops.
struct Shape {
    int64_t batch, channels, depth, height, width, kernel_d, kernel_h, kernel_w, ratio, hidden, threads;
    float eps, norm_eps;
    // Parts of a vector that hold different sources of the same channels (see fold_lanes); 1 if there is one source a lane.
    int64_t lane_parts = 1;

    // Inside, channels and hidden channels are padded to whole vectors. The padding has weights of zero and stays zero.
    int64_t inner() const { return padded(channels); }
    int64_t inner_hidden() const { return padded(hidden); }
    int64_t blocks() const { return inner() / kLanes; }
    // From one row to the next of matrices between two products; with a power of two, all rows would share a few sets of
    // the cache.
    int64_t inner_row() const { return inner() + kLanes; }
    int64_t hidden_row() const { return inner_hidden() + kLanes; }
    int64_t voxels() const { return depth * height * width; }
    int64_t lines() const { return depth * height; }
    int64_t margin() const { return kernel_d / 2; }
    int64_t taps() const { return kernel_d * kernel_h * kernel_w; }
    // Sources of a channel in one lane, and channels in one vector.
    int64_t lane_ratio() const { return ratio / lane_parts; }
    int64_t lane_channels() const { return kLanes / lane_parts; }
    // Sources of a voxel, with the padding.
    int64_t inner_sources() const { return inner() * lane_ratio(); }
};

// Contiguous float32 parameters of a block, in the layouts of PyTorch's pointwise convolutions: (out, in).
struct Weights {
    const float *project_in, *filters, *source, *source_bias, *project_out, *project_out_bias, *expand, *expand_bias,
        *contract, *contract_bias;
};

inline Shape shape_of(const int64_t* sizes, const float* eps) {
    return {sizes[0], sizes[1], sizes[2], sizes[3], sizes[4],  sizes[5], sizes[6],
            sizes[7], sizes[8], sizes[9], sizes[10], eps[0],   eps[1]};
}

inline Weights weights_of(const float* const* weights) {
    return {weights[0], weights[1], weights[2], weights[3], weights[4],
            weights[5], weights[6], weights[7], weights[8], weights[9]};
}

// Ring buffer of a tensor's last planes in channel blocks, [block][y + borders][x + borders][per][lane], zero borders.
template <class T>
class RingOf {
  public:
    RingOf(const Shape& shape, int64_t planes, int64_t per)
        : slots_(std::min(planes, shape.depth)),
          pixel_(per * kLanes),
          row_((shape.width + shape.kernel_w - 1) * pixel_),
          block_((shape.height + shape.kernel_h - 1) * row_),
          plane_(shape.blocks() * block_),
          depth_(shape.depth),
          corner_(shape.kernel_h / 2 * row_ + shape.kernel_w / 2 * pixel_),
          data_(slots_ * plane_) {}

    // Zero the buffer, each worker a share.
    void clear(const Worker& worker) const {
        worker.share(slots_, [&](int64_t slot) { std::memset(data_ + slot * plane_, 0, plane_ * sizeof(T)); });
    }

    // First pixel of row y of a block; the borders lie before and after the row.
    T* line(int64_t plane, int64_t block, int64_t y) const {
        return data_ + plane % slots_ * plane_ + block * block_ + y * row_ + corner_;
    }
    // Top left tap of row y, or null if the plane is outside the volume.
    const T* taps(int64_t plane, int64_t block, int64_t y) const {
        return plane < 0 || plane >= depth_ ? nullptr : line(plane, block, y) - corner_;
    }
    int64_t pixel() const { return pixel_; }
    int64_t row() const { return row_; }

    // Row y of all channels, as the left matrix of a product.
    LeftOf<T> left(int64_t plane, int64_t y) const {
        return {line(plane, 0, y), pixel_, 1, pixel_, plane_ / block_, block_};
    }
    // Address of column `column` of pixel x of a row.
    T* at(int64_t plane, int64_t y, int64_t x, int64_t column) const {
        return line(plane, column / pixel_, y) + x * pixel_ + column % pixel_;
    }

  private:
    int64_t slots_, pixel_, row_, block_, plane_, depth_, corner_;
    BufferOf<T> data_;
};
using Ring = RingOf<float>;

// Few channels would leave half of the lanes of a vector empty. The upper half takes half of the sources, and images of
// channels, such as X and S * V, are there twice. In bfloat16 sources are in pairs, so that each half takes whole pairs.
template <class T>
void fold_lanes(Shape& shape) {
    shape.lane_parts = 2 * shape.channels <= kLanes && shape.ratio % (2 * Operands<T>::kDepth) == 0 ? 2 : 1;
}

// Add the sums of the sources in one half of the lanes to those in the other half.
DECONVSEG_INLINE vec fold(vec sums) { return sums + exchange_halves(sums, kAllLanes); }

// Channel of a column of an image of channels, or -1 in the padding.
inline int64_t image_channel(const Shape& shape, int64_t column) {
    const int64_t channel = shape.lane_parts == 1 ? column : column % shape.lane_channels();
    return channel < shape.channels ? channel : -1;
}

// Source channel e = c * ratio + r of a column in blocked order, [block][r][lane], or -1 in the padding.
inline int64_t source_channel(const Shape& shape, int64_t column) {
    // One short division: weights are packed element by element.
    const auto vector = static_cast<uint32_t>(column / kLanes), ratio = static_cast<uint32_t>(shape.lane_ratio());
    const auto lane = static_cast<uint32_t>(column % kLanes), lanes = static_cast<uint32_t>(shape.lane_channels());
    const int64_t channel = static_cast<int64_t>(vector / ratio) * lanes + lane % lanes;
    return channel < shape.channels ? channel * shape.ratio + lane / lanes * ratio + vector % ratio : -1;
}

// A task of S * V has this many times as many lines as other tasks, because its rows share their inputs.
constexpr int64_t kStrip = 4;

// Planes of the mixer per step: 1024 to 2048 voxels, enough for fast matrix products and for a task of each thread.
inline int64_t planes_at_once(const Shape& shape, int64_t voxels = 2048) {
    const int64_t planes = std::clamp<int64_t>(voxels, 1024, 2048) / (shape.height * shape.width);
    return std::max<int64_t>(1, std::min(shape.depth, planes));
}

// Lines (image rows) per task: enough voxels to reuse a panel of weights several times from cache.
inline int64_t lines_per_task(const Shape& shape) { return std::max<int64_t>(1, 128 / shape.width); }

// Call task(first line, last line) for parts of some planes, each with `times` the usual number of lines.
template <class Task>
void share_lines(const Worker& worker, const Shape& shape, int64_t first_plane, int64_t last_plane, Task task,
                 int64_t times = 1) {
    const int64_t first = first_plane * shape.height, last = last_plane * shape.height;
    const int64_t size = lines_per_task(shape) * times;
    worker.share((last - first + size - 1) / size, [&](int64_t i) {
        task(first + i * size, std::min(first + (i + 1) * size, last));
    });
}

// Where sums of some columns go in row y of a ring. The address of a column takes divisions, so it is computed once for a
// line and a panel of columns, not for each voxel.
template <class T>
class PanelOf {
  public:
    PanelOf(const RingOf<T>& ring, int64_t plane, int64_t y, int64_t column) : pixel_(ring.pixel()), column_(column) {
        for (int v = 0; v < kTileVectors; ++v) of_[v] = ring.at(plane, y, 0, column + v * kLanes);
    }
    T* at(int64_t x, int64_t column) const { return of_[(column - column_) / kLanes] + x * pixel_; }

  private:
    T* of_[kTileVectors];
    int64_t pixel_, column_;
};

// A matrix product for each of some lines, panel by panel: left(line) is the left matrix, and finish(line, column) returns
// the function (x, column, sums) that takes the sums of the panel beginning at `column`.
template <class T, class Lefts, class Finish>
void multiply_lines(int64_t first, int64_t last, int64_t width, const BufferOf<T>& packed, int64_t columns,
                    Lefts left, Finish finish) {
    const T* panel = packed;
    for (int64_t column = 0; column < columns; column += kTileColumns) {
        int64_t depth = 0;
        for (int64_t line = first; line < last; ++line) {
            const LeftOf<T> of = left(line);
            depth = of.depth * of.segments;
            multiply_column(of, width, panel, columns, column, finish(line, column));
        }
        panel += packed_size<T>(depth, kTileColumns);
    }
}

// Pack the (depth x columns) weights from[k_at(k) + column_at(column)]; each worker packs a share of the panels. A negative
// offset is that of a row or column of zeros.
template <class T, class KAt, class ColumnAt>
void pack(const Worker& worker, const BufferOf<T>& packed, int64_t depth, int64_t columns, const float* from, KAt k_at,
          ColumnAt column_at) {
    worker.share((columns + kTileColumns - 1) / kTileColumns, [&](int64_t panel) {
        pack_panel(packed + panel * packed_size<T>(depth, kTileColumns), depth, columns, panel * kTileColumns, from, k_at,
                   column_at);
    });
}

// Offsets for pack() of rows or columns that are `step` apart: of the first `count` ones, before padding; of channels in the
// lanes of an image; and of sources in blocked order.
inline auto in_order(int64_t count, int64_t step) {
    return [=](int64_t i) { return i < count ? i * step : -1; };
}
inline auto in_lanes(const Shape& shape, int64_t step) {
    return [&shape, step](int64_t i) { return image_channel(shape, i) * step; };
}
inline auto in_blocks(const Shape& shape, int64_t step) {
    return [&shape, step](int64_t i) { return source_channel(shape, i) * step; };
}

// Mean and reciprocal standard deviation of each channel of (voxels, channels), the same for any number of threads.
class Statistics {
  public:
    explicit Statistics(const Shape& shape)
        : channels_(shape.channels),
          voxels_(shape.voxels()),
          chunks_(std::min<int64_t>(voxels_, 64)),
          eps_(shape.norm_eps),
          partial_(chunks_ * shape.inner() * 2),
          mean(shape.inner()),
          scale(shape.inner()) {}

    template <class T>
    void measure(const Worker& worker, const T* x) {
        worker.share(chunks_, [&](int64_t chunk) {
            sum(x, voxels_ * chunk / chunks_, voxels_ * (chunk + 1) / chunks_, &partial_[chunk * inner() * 2]);
        });
        worker.meet();
        worker.share(channels_, [&](int64_t c) {
            double average = 0, squares = 0, count = 0;
            for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
                const double* of = &partial_[chunk * inner() * 2 + c];
                const double n = voxels_ * (chunk + 1) / chunks_ - voxels_ * chunk / chunks_;
                merge(average, squares, count, of[0], of[inner()], n);
                count += n;
            }
            mean[c] = static_cast<float>(average);
            scale[c] = static_cast<float>(1 / std::sqrt(squares / voxels_ + eps_));
        });
        worker.meet();
    }

    // norm(x) of some voxels, padded to whole vectors, in rows of `row` elements (by default without gaps).
    template <class T>
    void normalise(const T* x, int64_t voxels, T* to) const {
        normalise(x, voxels, to, inner());
    }
    template <class T>
    void normalise(const T* x, int64_t voxels, T* to, int64_t row) const {
        for (int64_t v = 0; v < voxels; ++v)
            for (int64_t c = 0; c < channels_; c += kLanes) {
                const vec away = load_some(x + v * channels_ + c, channels_ - c) - load(&mean[c]);
                store(to + v * row + c, away * load(&scale[c]));
            }
    }

  private:
    int64_t inner() const { return static_cast<int64_t>(mean.size()); }

    // Add the statistics of n voxels to those of `count` voxels.
    DECONVSEG_INLINE static void merge(double& mean, double& squares, double count, double other, double other_squares,
                                       double n) {
        const double step = other - mean, total = count + n;
        mean += step * n / total;
        squares += other_squares + step * step * count * n / total;
    }

    // Two passes over a few voxels at a time, which stay in cache; one pass would suffer cancellation. The result has the
    // means of all channels, then the sums of squares.
    template <class T>
    void sum(const T* x, int64_t first, int64_t last, double* result) const {
        std::fill(result, result + inner() * 2, 0.0);
        for (int64_t from = first; from < last; from += 64) {
            const int64_t n = std::min<int64_t>(64, last - from);
            for (int64_t c = 0; c < channels_; c += kLanes) {
                vec total{}, squares{};
                for (int64_t v = from; v < from + n; ++v) total += load_some(x + v * channels_ + c, channels_ - c);
                const vec average = total / static_cast<float>(n);
                for (int64_t v = from; v < from + n; ++v) {
                    const vec away = load_some(x + v * channels_ + c, channels_ - c) - average;
                    squares += away * away;
                }
                // Local copies, which do not alias, so that the compiler merges several lanes at a time.
                float averages[kLanes], sums[kLanes];
                store(averages, average), store(sums, squares);
                double *means = result + c, *totals = result + inner() + c, mean[kLanes], total_squares[kLanes];
                std::copy_n(means, kLanes, mean), std::copy_n(totals, kLanes, total_squares);
                for (int i = 0; i < kLanes; ++i)
                    merge(mean[i], total_squares[i], from - first, averages[i], sums[i], n);
                std::copy_n(mean, kLanes, means), std::copy_n(total_squares, kLanes, totals);
            }
        }
    }

    int64_t channels_, voxels_, chunks_;
    float eps_;
    std::vector<double> partial_;

  public:
    std::vector<float> mean, scale;
};

}  // namespace deconvseg::block
