// Parameters of a block in the order in which matrix products and row kernels read them, in float32 or bfloat16.
#pragma once

#include "shape.h"

namespace deconvseg::block {

// The backward pass recomputes X, S and the MLP's inner image, but not z and y: it needs no weights of these
// products.
enum class Pass { kForward, kBackward };

// Depth of a product over channels. In bfloat16 the padding is part of it, because two channels are multiplied at a
// time.
template <class T>
int64_t depth_of(int64_t channels) {
    return Operands<T>::kDepth == 1 ? channels : padded(channels);
}

// Source channel of number k of a voxel in a ring of sources in bfloat16, [block][r / 2][lane][2], or -1 in the padding.
inline int64_t paired_channel(const Shape& shape, int64_t k) {
    const int64_t j = k % (2 * kLanes);
    return source_channel(shape, k - j + j % 2 * kLanes + j / 2);
}

// Offsets for pack(), as in_blocks(), of the sources of a voxel in the order of a ring.
template <class T>
auto in_ring(const Shape& shape, int64_t step) {
    if constexpr (Operands<T>::kDepth == 1)
        return in_blocks(shape, step);
    else
        return [&shape, step](int64_t k) { return paired_channel(shape, k) * step; };
}

// Filters of all blocks for the row kernels: planes.h and planes_bfloat16.h.
template <class T>
class Filters;

template <class T>
struct Packed {
    Packed(const Shape& shape, Pass pass)
        : forward(pass == Pass::kForward),
          project_in(packed_size<T>(depth_of<T>(shape.channels), shape.inner())),
          source(packed_size<T>(shape.inner(), shape.inner_sources())),
          project_out(forward ? packed_size<T>(shape.inner_sources(), shape.channels) : 0),
          expand(packed_size<T>(depth_of<T>(shape.channels), shape.hidden)),
          contract(forward ? packed_size<T>(depth_of<T>(shape.hidden), shape.channels) : 0),
          filters(shape),
          source_bias(shape.inner_sources()) {}

    void fill(const Worker& worker, const Shape& shape, const Weights& weights) const {
        const int64_t channels = shape.channels, hidden = shape.hidden, inner = shape.inner();
        pack(worker, project_in, depth_of<T>(channels), inner, weights.project_in, in_order(channels, 1),
             in_lanes(shape, channels));
        pack(worker, source, inner, shape.inner_sources(), weights.source, in_order(channels, 1),
             in_blocks(shape, channels));
        pack(worker, expand, depth_of<T>(channels), hidden, weights.expand, in_order(channels, 1),
             in_order(hidden, channels));
        if (forward) {
            pack(worker, project_out, shape.inner_sources(), channels, weights.project_out, in_ring<T>(shape, 1),
                 in_order(channels, channels * shape.ratio));
            pack(worker, contract, depth_of<T>(hidden), channels, weights.contract, in_order(hidden, 1),
                 in_order(channels, hidden));
        }
        worker.share(shape.blocks(), [&](int64_t block) {
            const int64_t per = shape.lane_ratio() * kLanes, taps = shape.taps();
            filters.fill(block, [&](int64_t tap, int64_t r, int64_t lane) {
                const int64_t e = source_channel(shape, block * per + r * kLanes + lane);
                const float value = e >= 0 ? weights.filters[e * taps + tap] : 0.0f;
                return value < 0 ? 0.0f : value;
            });
            for (int64_t j = 0; j < per; ++j) {
                const int64_t e = source_channel(shape, block * per + j);
                source_bias[block * per + j] = e >= 0 ? weights.source_bias[e] : 0.0f;
            }
        });
    }

    bool forward;
    BufferOf<T> project_in, source, project_out, expand, contract;
    Filters<T> filters;
    Buffer source_bias;
};

// The same for the matrix products of the backward pass.
template <class T>
struct PackedBackward {
    explicit PackedBackward(const Shape& shape)
        : project_in(packed_size<T>(shape.inner(), shape.channels)),
          source(packed_size<T>(shape.inner_sources(), shape.inner())),
          project_out(packed_size<T>(depth_of<T>(shape.channels), shape.inner_sources())),
          expand(packed_size<T>(depth_of<T>(shape.hidden), shape.channels)),
          contract(packed_size<T>(depth_of<T>(shape.channels), shape.hidden)) {}

    void fill(const Worker& worker, const Shape& shape, const Weights& weights) const {
        const int64_t channels = shape.channels, hidden = shape.hidden, inner = shape.inner();
        pack(worker, project_in, inner, channels, weights.project_in, in_order(channels, channels),
             in_order(channels, 1));
        pack(worker, source, shape.inner_sources(), inner, weights.source, in_ring<T>(shape, channels),
             in_lanes(shape, 1));
        pack(worker, project_out, depth_of<T>(channels), shape.inner_sources(), weights.project_out,
             in_order(channels, channels * shape.ratio), in_blocks(shape, 1));
        pack(worker, expand, depth_of<T>(hidden), channels, weights.expand, in_order(hidden, channels),
             in_order(channels, 1));
        pack(worker, contract, depth_of<T>(channels), hidden, weights.contract, in_order(channels, hidden),
             in_order(hidden, 1));
    }

    BufferOf<T> project_in, source, project_out, expand, contract;
};

}  // namespace deconvseg::block
