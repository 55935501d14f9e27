// One group per image channel: partition of the work into boxes of a channel block, and the planes that a box needs.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels.h"
#include "layout.h"

namespace deconvseg::ndc {

struct Problem {
    int64_t batch, channels, depth, height, width;
    Shape shape;

    int64_t blocks() const { return (channels + kLanes - 1) / kLanes; }
    int64_t lanes(int64_t block) const { return std::min<int64_t>(kLanes, channels - block * kLanes); }
};

// The voxels from z to z_end - 1, and likewise on the other axes.
struct Box {
    int64_t z, y, x, z_end, y_end, x_end;

    int64_t height() const { return y_end - y; }
    int64_t width() const { return x_end - x; }

    // The box enlarged by `margin` half kernels on every side, clipped to the volume.
    Box grown(int64_t margin, const Problem& problem) const {
        const int64_t dz = margin * (problem.shape.kd / 2), dy = margin * (problem.shape.kh / 2),
                      dx = margin * (problem.shape.kw / 2);
        return {std::max<int64_t>(0, z - dz),         std::max<int64_t>(0, y - dy),
                std::max<int64_t>(0, x - dx),         std::min(problem.depth, z_end + dz),
                std::min(problem.height, y_end + dy), std::min(problem.width, x_end + dx)};
    }
};

// Ring buffer of the latest planes of an intermediate tensor: a box with a margin of `margin` half kernels, zero
// outside the volume. `vectors` is the number of vectors per voxel: 1 for an image, the sources per channel for a
// source.
class Ring {
  public:
    Ring(const Problem& problem, const Box& box, int64_t margin, int64_t planes, int64_t vectors)
        : shape_(problem.shape),
          depth_(problem.depth),
          y_(box.y - margin * (shape_.kh / 2)),
          x_(box.x - margin * (shape_.kw / 2)),
          height_(box.height() + 2 * margin * (shape_.kh / 2)),
          planes_(planes),
          voxel_(vectors * kLanes),
          row_((box.width() + 2 * margin * (shape_.kw / 2)) * voxel_) {}

    // Size of the planes only. It determines the partition of the work, and so the order of summation.
    int64_t floats() const { return planes_ * height_ * row_; }
    // Size of the pointers to planes, which are stored behind the planes.
    static int64_t floats_of_taps(const Shape& shape) {
        return (shape.kd * int64_t{sizeof(float*) / sizeof(float)} + kLanes - 1) / kLanes * kLanes;
    }
    int64_t row() const { return row_; }

    // Take memory from the front of `memory` and advance it.
    void take(float*& memory) {
        data_ = memory;
        memory += floats();
        std::fill(data_, memory, 0.0f);
        taps_ = reinterpret_cast<const float**>(memory);
        memory += floats_of_taps(shape_);
    }

    float* at(int64_t z, int64_t y, int64_t x) const {
        return data_ + (z % planes_ * height_ + y - y_) * row_ + (x - x_) * voxel_;
    }

    // The planes around a voxel, in the form that the row kernels take; valid until the next call.
    const float* const* taps(int64_t z, int64_t y, int64_t x) const {
        for (int64_t k = 0; k < shape_.kd; ++k) {
            const int64_t plane = z + k - shape_.kd / 2;
            const bool outside = plane < 0 || plane >= depth_;
            taps_[k] = outside ? nullptr : at(plane, y - shape_.kh / 2, x - shape_.kw / 2);
        }
        return taps_;
    }

  private:
    Shape shape_;
    int64_t depth_, y_, x_, height_, planes_, voxel_, row_;
    float* data_ = nullptr;
    const float** taps_ = nullptr;
};

// A unit of work: a box of one channel block of one sample.
struct Task {
    int64_t sample, block;
    Box box;
};

// Partition of the work into tasks. It depends on the problem only, so that sums do not depend on the number of
// threads.
class Partition {
  public:
    // `floats(box)` is the memory that a box needs; it is kept below `budget` unless the box would become tiny.
    template <class Floats>
    Partition(const Problem& problem, int64_t budget, Floats floats) : problem_(problem) {
        constexpr int64_t widest = 96, usual_width = 64, lowest = 8, shallowest = 16, enough = 32;
        width_ = problem.width <= widest ? problem.width : usual_width;
        columns_ = pieces(problem.width, width_);
        height_ = problem.height;
        while (height_ > lowest && floats(largest()) > budget) height_ = pieces(height_, 2);
        rows_ = pieces(problem.height, height_);
        depth_ = problem.depth;
        slabs_ = 1;
        while (tasks() < enough && pieces(depth_, 2) >= shallowest) {
            depth_ = pieces(depth_, 2);
            slabs_ = pieces(problem.depth, depth_);
        }
    }

    int64_t tasks() const { return problem_.batch * problem_.blocks() * slabs_ * rows_ * columns_; }
    int64_t tasks_per_block() const { return slabs_ * rows_ * columns_; }
    Box largest() const { return {0, 0, 0, depth_, height_, std::min(width_, problem_.width)}; }

    // Tasks of the same block and sample are consecutive.
    Task task(int64_t index) const {
        const int64_t x = index % columns_ * width_, y = index / columns_ % rows_ * height_,
                      z = index / (columns_ * rows_) % slabs_ * depth_, pair = index / tasks_per_block();
        return {pair / problem_.blocks(), pair % problem_.blocks(),
                {z, y, x, std::min(problem_.depth, z + depth_), std::min(problem_.height, y + height_),
                 std::min(problem_.width, x + width_)}};
    }

  private:
    static int64_t pieces(int64_t length, int64_t piece) { return (length + piece - 1) / piece; }

    const Problem& problem_;
    int64_t width_, height_, depth_, columns_, rows_, slabs_;
};

// Pack a block's filters from (C, R, taps) to [taps][R][kLanes].
inline void pack_filters(float* to, const float* filters, const Problem& problem, int64_t block) {
    const int64_t sources = problem.shape.sources, taps = problem.shape.filter_vectors() / sources;
    const float* from = filters + block * kLanes * sources * taps;
    for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t r = 0; r < sources; ++r, to += kLanes)
            for (int64_t lane = 0; lane < kLanes; ++lane)
                to[lane] = lane < problem.lanes(block) ? from[(lane * sources + r) * taps + tap] : 0.0f;
}

// Copy the rows of a region of plane z from a tensor into a ring.
inline void load_plane(const Ring& to, const Tensor<const float>& from, const Problem& problem, const Task& task,
                       int64_t sources, int64_t z, const Box& region) {
    const Row row{from.strides[1], from.strides[4], problem.lanes(task.block), sources, region.width()};
    for (int64_t y = region.y; y < region.y_end; ++y)
        load_row(to.at(z, y, region.x), from.at(task.sample, task.block * kLanes * sources, z, y, region.x), row);
}

// Make the planes from `next` up to `last` within the volume.
template <class Make>
void advance(int64_t& next, int64_t last, int64_t depth, Make make) {
    for (; next <= std::min(last, depth - 1); ++next) make(next);
}

}  // namespace deconvseg::ndc
