// Copies between tensors with any strides and the blocked rows of kernels.h.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace deconvseg::ndc {

// Axes (sample, channel, depth, height, width); strides in elements.
template <class Value>
struct Tensor {
    Value* data;
    const int64_t* strides;

    Value* at(int64_t sample, int64_t channel, int64_t z, int64_t y, int64_t x) const {
        return data + sample * strides[0] + channel * strides[1] + z * strides[2] + y * strides[3] + x * strides[4];
    }
};

// Layout of a row in a tensor: `width` voxels of a block of `lanes` image channels with `sources` tensor channels each.
struct Row {
    int64_t channel_stride, voxel_stride, lanes, sources, width;

    int64_t offset(int64_t lane, int64_t source, int64_t x) const {
        return (lane * sources + source) * channel_stride + x * voxel_stride;
    }
};

// Alternate the elements of the first and the second half of N vectors, taken as one sequence (a perfect shuffle).
template <int N>
DECONVSEG_INLINE void interleave(vec (&values)[N]) {
    vec dealt[N];
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; ++i) {
        dealt[2 * i] = zip<0>(values[i], values[i + N / 2], kAllLanes);
        dealt[2 * i + 1] = zip<kLanes / 2>(values[i], values[i + N / 2], kAllLanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) values[i] = dealt[i];
}

// The inverse of interleave.
template <int N>
DECONVSEG_INLINE void separate(vec (&values)[N]) {
    vec gathered[N];
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; ++i) {
        gathered[i] = unzip<0>(values[2 * i], values[2 * i + 1], kAllLanes);
        gathered[i + N / 2] = unzip<1>(values[2 * i], values[2 * i + 1], kAllLanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) values[i] = gathered[i];
}

// Cover a row with tiles of kLanes voxels; the last one may overlap the previous one.
template <class Tile>
DECONVSEG_INLINE void tiles(int64_t width, Tile tile) {
    for (int64_t x = 0; x < width; x += kLanes) tile(x + kLanes <= width ? x : width - kLanes);
}

inline bool channels_last(const Row& row) { return row.channel_stride == 1 && row.lanes == kLanes; }
inline bool channels_first(const Row& row) { return row.voxel_stride == 1 && row.width >= kLanes; }

// Load voxels whose kLanes * N channels are contiguous, with N sources per image channel: N interleaved vectors.
template <int N>
void load_interleaved(float* to, const float* from, const Row& row) {
    for (int64_t x = 0; x < row.width; ++x, to += N * kLanes, from += row.voxel_stride) {
        vec values[N];
        for (int i = 0; i < N; ++i) values[i] = load(from + i * kLanes);
        for (int half = 1; half < N; half *= 2) separate(values);
        for (int i = 0; i < N; ++i) store(to + i * kLanes, values[i]);
    }
}

template <int N>
void store_interleaved(float* to, const float* from, const Row& row) {
    for (int64_t x = 0; x < row.width; ++x, to += row.voxel_stride, from += N * kLanes) {
        vec values[N];
        for (int i = 0; i < N; ++i) values[i] = load(from + i * kLanes);
        for (int half = 1; half < N; half *= 2) interleave(values);
        for (int i = 0; i < N; ++i) store(to + i * kLanes, values[i]);
    }
}

// Copy a row of a tensor to a blocked row [width][sources][kLanes], with zeros in the lanes without a channel.
inline void load_row(float* to, const float* from, const Row& row) {
    if (channels_last(row) && row.sources == 1) return load_interleaved<1>(to, from, row);
    if (channels_last(row) && row.sources == 2) return load_interleaved<2>(to, from, row);
    if (channels_last(row) && row.sources == 4) return load_interleaved<4>(to, from, row);
    if (channels_first(row)) {
        for (int64_t source = 0; source < row.sources; ++source)
            tiles(row.width, [&](int64_t x) {
                vec values[kLanes];
                for (int lane = 0; lane < kLanes; ++lane)
                    values[lane] = lane < row.lanes ? load(from + row.offset(lane, source, x)) : vec{};
                transpose(values);
                for (int i = 0; i < kLanes; ++i) store(to + ((x + i) * row.sources + source) * kLanes, values[i]);
            });
        return;
    }
    // One channel at a time, because channels a power of two apart map to the same cache set.
    for (int lane = 0; lane < kLanes; ++lane)
        for (int64_t source = 0; source < row.sources; ++source)
            for (int64_t x = 0; x < row.width; ++x)
                to[(x * row.sources + source) * kLanes + lane] =
                    lane < row.lanes ? from[row.offset(lane, source, x)] : 0.0f;
}

// The inverse of load_row; lanes without a channel are dropped.
inline void store_row(float* to, const float* from, const Row& row) {
    if (channels_last(row) && row.sources == 1) return store_interleaved<1>(to, from, row);
    if (channels_last(row) && row.sources == 2) return store_interleaved<2>(to, from, row);
    if (channels_last(row) && row.sources == 4) return store_interleaved<4>(to, from, row);
    if (channels_first(row)) {
        for (int64_t source = 0; source < row.sources; ++source)
            tiles(row.width, [&](int64_t x) {
                vec values[kLanes];
                for (int i = 0; i < kLanes; ++i) values[i] = load(from + ((x + i) * row.sources + source) * kLanes);
                transpose(values);
                for (int lane = 0; lane < row.lanes; ++lane) store(to + row.offset(lane, source, x), values[lane]);
            });
        return;
    }
    for (int lane = 0; lane < row.lanes; ++lane)
        for (int64_t source = 0; source < row.sources; ++source)
            for (int64_t x = 0; x < row.width; ++x)
                to[row.offset(lane, source, x)] = from[(x * row.sources + source) * kLanes + lane];
}

}  // namespace deconvseg::ndc
