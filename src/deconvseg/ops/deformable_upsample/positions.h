// Sampling positions of output pixels (Eq. 1 of DTC), one block of output pixels at a time. Positions are in double
// precision, because the fraction between two pixels is a small difference of large numbers.
#pragma once

#include <vector>

#include "simd.h"

namespace deconvseg::upsample {

// Output pixels in one block; a block never crosses the end of a row of the last axis.
constexpr int kBlock = 64;

// Sizes of the tensors; offsets and weights are (batch, Axes, *scaled), the last array axis first.
template <int Axes>
struct Problem {
    int64_t batch, channels;
    int64_t size[Axes], scaled[Axes];
    double factor[Axes];  // shift in pixels of a unit offset
    const float* offsets;
    const float* weights;  // null for weights of 1
    int64_t pixels = 1, positions = 1, segments, blocks;
    std::vector<double> centres[Axes];

    Problem(int64_t batch, int64_t channels, const int64_t* size_, const int64_t* scaled_, const double* factor_,
            const float* offsets, const float* weights)
        : batch(batch), channels(channels), offsets(offsets), weights(weights) {
        for (int axis = 0; axis < Axes; ++axis) {
            size[axis] = size_[axis];
            scaled[axis] = scaled_[axis];
            factor[axis] = factor_[axis];
            pixels *= size[axis];
            positions *= scaled[axis];
            // The division comes last, so that integer centres are exact.
            for (int64_t i = 0; i < scaled[axis]; ++i)
                centres[axis].push_back((i + 0.5) * size[axis] / scaled[axis] - 0.5);
        }
        segments = (scaled[Axes - 1] + kBlock - 1) / kBlock;
        blocks = positions == 0 ? 0 : batch * (positions / scaled[Axes - 1]) * segments;
    }
};

// A block: its sample, its first output pixel in the sample, and its number of output pixels.
template <int Axes>
struct Block {
    int64_t sample, row, column, begin;
    int count;

    Block(const Problem<Axes>& problem, int64_t index) {
        const int64_t width = problem.scaled[Axes - 1], rows = problem.positions / width;
        column = index % problem.segments * kBlock;
        row = index / problem.segments % rows;
        sample = index / problem.segments / rows;
        begin = row * width + column;
        count = static_cast<int>(width - column < kBlock ? width - column : kBlock);
    }
};

// Per output pixel: the index of the lower neighbour, the index distance to the upper neighbour (0 at the border), the
// fractional position between them, and whether the position is inside the image, where it has a gradient.
template <int Axes>
struct Samples {
    int32_t lower[kBlock];
    int32_t step[Axes][kBlock];
    float fraction[Axes][kBlock];
    int32_t inside[Axes][kBlock];
};

// Index of the block's first offset or weight on one axis.
template <int Axes>
DECONVSEG_INLINE int64_t moves_at(const Problem<Axes>& problem, const Block<Axes>& block, int axis) {
    return (block.sample * Axes + Axes - 1 - axis) * problem.positions + block.begin;
}

template <int Axes>
void locate(const Problem<Axes>& problem, const Block<Axes>& block, Samples<Axes>& samples) {
    std::memset(samples.lower, 0, sizeof samples.lower);
    int64_t row = block.row, stride = 1;
    for (int axis = Axes - 1; axis >= 0; --axis) {
        double centre[kBlock];
        const bool last_axis = axis == Axes - 1;
        const int64_t across = last_axis ? 0 : row % problem.scaled[axis];
        if (!last_axis) row /= problem.scaled[axis];
        const double* centres = problem.centres[axis].data() + (last_axis ? block.column : across);
        for (int i = 0; i < block.count; ++i) centre[i] = centres[last_axis ? i : 0];
        const float* offsets = problem.offsets + moves_at(problem, block, axis);
        const float* weights = problem.weights ? problem.weights + moves_at(problem, block, axis) : nullptr;
        const double factor = problem.factor[axis], border = static_cast<double>(problem.size[axis] - 1);
        const int32_t end = static_cast<int32_t>(problem.size[axis] - 1), along = static_cast<int32_t>(stride);
        for (int i = 0; i < block.count; ++i) {
            const double move = weights ? static_cast<double>(offsets[i]) * weights[i] : offsets[i];
            const double where = centre[i] + move * factor;
            // Comparisons with NaN are false, so a NaN position stays NaN, at pixel 0.
            const double held = where < 0.0 ? 0.0 : where > border ? border : where;
            const int32_t lower = static_cast<int32_t>(held >= 0.0 ? held : 0.0);
            samples.lower[i] += lower * along;
            samples.step[axis][i] = lower < end ? along : 0;
            samples.fraction[axis][i] = static_cast<float>(held - lower);
            samples.inside[axis][i] = (where >= 0.0) & (where <= border);
        }
        stride *= problem.size[axis];
    }
}

// Pixel and share of each of the 2^Axes neighbours of one output pixel; bit Axes - 1 - axis selects the upper one.
template <int Axes>
DECONVSEG_INLINE void corners(const Samples<Axes>& samples, int i, int64_t (&pixel)[1 << Axes], float (&share)[1 << Axes]) {
#pragma GCC unroll 8
    for (int corner = 0; corner < 1 << Axes; ++corner) {
        pixel[corner] = samples.lower[i];
        share[corner] = 1.0f;
#pragma GCC unroll 3
        for (int axis = 0; axis < Axes; ++axis) {
            const bool upper = corner >> (Axes - 1 - axis) & 1;
            const float part = samples.fraction[axis][i];
            share[corner] *= upper ? part : 1.0f - part;
            pixel[corner] += upper ? samples.step[axis][i] : 0;
        }
    }
}

}  // namespace deconvseg::upsample
