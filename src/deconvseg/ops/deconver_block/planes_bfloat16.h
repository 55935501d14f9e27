// Weights and ring buffers of a Deconver block in bfloat16, and the steps that its passes share.
#pragma once

#include "../native/bfloat16.h"
#include "../ndc/pairs.h"
#include "shape.h"

namespace deconvseg::block {

using PairRing = RingOf<bfloat16>;
using PairLeft = LeftOf<bfloat16>;

// Source channel of number k of a voxel in a ring of sources, [block][r / 2][lane][2], or -1 in the padding.
inline int64_t paired_channel(const Shape& shape, int64_t k) {
    const int64_t per = shape.ratio * kLanes, j = k % per, channel = k / per * kLanes + j % (2 * kLanes) / 2;
    return channel < shape.channels ? channel * shape.ratio + j / (2 * kLanes) * 2 + j % 2 : -1;
}

// Their offsets for pack(), as in_blocks().
inline auto in_paired_blocks(const Shape& shape, int64_t step) {
    return [&shape, step](int64_t k) { return paired_channel(shape, k) * step; };
}

// Parameters in the order in which the matrix products and row kernels read them.
struct PackedPairs {
    PackedPairs(const Shape& shape, Pass pass)
        : forward(pass == Pass::kForward),
          project_in(packed_size<bfloat16>(shape.inner(), shape.inner())),
          source(packed_size<bfloat16>(shape.inner(), shape.inner() * shape.ratio)),
          project_out(forward ? packed_size<bfloat16>(shape.inner() * shape.ratio, shape.channels) : 0),
          expand(packed_size<bfloat16>(shape.inner(), shape.hidden)),
          contract(forward ? packed_size<bfloat16>(shape.inner_hidden(), shape.channels) : 0),
          filters(shape.inner() * shape.ratio * shape.taps()),
          adjoint(shape.blocks() * adjoint_size(shape)),
          source_bias(shape.inner() * shape.ratio) {}

    // Numbers of V⁻ of a block.
    static int64_t adjoint_size(const Shape& shape) {
        return shape.kernel_d * shape.kernel_h * (shape.kernel_w + 1) * shape.ratio * kLanes;
    }

    void fill_mixer(const Worker& worker, const Shape& shape, const Weights& weights) const {
        const int64_t channels = shape.channels, sources = channels * shape.ratio, taps = shape.taps();
        const int64_t inner = shape.inner(), inner_sources = inner * shape.ratio;
        pack(worker, project_in, inner, inner, weights.project_in, in_order(channels, 1), in_order(channels, channels));
        pack(worker, source, inner, inner_sources, weights.source, in_order(channels, 1), in_blocks(shape, channels));
        if (forward)
            pack(worker, project_out, inner_sources, channels, weights.project_out, in_paired_blocks(shape, 1),
                 in_order(channels, sources));
        worker.share(shape.blocks(), [&](int64_t block) {
            const int64_t per = shape.ratio * kLanes;
            ndc::pack_pairs(filters + block * taps * per, adjoint + block * adjoint_size(shape),
                            {shape.kernel_d, shape.kernel_h, shape.kernel_w, shape.ratio},
                            [&](int64_t tap, int64_t r, int64_t lane) {
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

    void fill_mlp(const Worker& worker, const Shape& shape, const Weights& weights) const {
        const int64_t channels = shape.channels, hidden = shape.hidden;
        pack(worker, expand, shape.inner(), hidden, weights.expand, in_order(channels, 1), in_order(hidden, channels));
        if (forward)
            pack(worker, contract, shape.inner_hidden(), channels, weights.contract, in_order(hidden, 1),
                 in_order(channels, hidden));
    }

    bool forward;
    BufferOf<bfloat16> project_in, source, project_out, expand, contract, filters, adjoint;
    Buffer source_bias;
};

// Planes of the mixer in ring buffers, and the row kernels of each of its steps.
template <int Ratio, int Kernel>
class PairPlanes {
  public:
    // `lag` is the number of margins between the newest plane and the oldest plane that is still needed.
    PairPlanes(const Shape& shape, const Weights& weights, const PackedPairs& packed, int64_t lag)
        : shape_(shape),
          weights_(weights),
          packed_(packed),
          kernel_{shape.kernel_d, shape.kernel_h, shape.kernel_w, shape.ratio},
          step_(planes_at_once(shape)),
          image_(shape, step_ + lag * shape.margin(), 2),
          source_(shape, step_ + lag * shape.margin(), Ratio),
          explained_(shape, step_ + lag * shape.margin(), 2) {}

    void clear(const Worker& worker) const {
        image_.clear(worker);
        source_.clear(worker);
        explained_.clear(worker);
    }

    // Numbers that a worker needs in addition to the rings.
    static int64_t scratch(const Shape& shape) { return 2 * lines_per_task(shape) * shape.width * shape.inner(); }

  protected:
    // Number of planes whose neighbours are all available if `count` planes are.
    int64_t ready(int64_t count) const {
        return count == shape_.depth ? count : std::max<int64_t>(0, count - shape_.margin());
    }
    int64_t plane(int64_t line) const { return line / shape_.height; }
    int64_t y(int64_t line) const { return line % shape_.height; }
    const bfloat16* filters(int64_t block) const { return packed_.filters + block * shape_.taps() * Ratio * kLanes; }
    const bfloat16* adjoint(int64_t block) const { return packed_.adjoint + block * packed_.adjoint_size(shape_); }
    bfloat16* line_of(const PairRing& ring, int64_t line, int64_t block) const {
        return ring.line(plane(line), block, y(line));
    }

    // The planes around a line of a block, in the form that row kernels take.
    struct Taps {
        const bfloat16* planes[kDepthTaps];
        operator const bfloat16* const*() const { return planes; }
    };
    Taps around(const PairRing& ring, int64_t line, int64_t block) const {
        Taps taps;
        for (int64_t k = 0; k < shape_.kernel_d; ++k)
            taps.planes[k] = ring.taps(plane(line) + k - shape_.margin(), block, y(line));
        return taps;
    }

    // Compute X = relu(W norm(x)) and the first source S = relu(W X + b) for some lines.
    void make(int64_t first, int64_t last, const Statistics& statistics, const bfloat16* x, bfloat16* scratch) const {
        const int64_t inner = shape_.inner(), width = shape_.width, rows = (last - first) * width;
        bfloat16 *normal = scratch, *image = scratch + rows * inner;
        statistics.normalise(x + first * width * shape_.channels, rows, normal);
        multiply(PairLeft{normal, inner, 1, inner}, rows, packed_.project_in, inner,
                 [&](int64_t row, int64_t c, const auto& sums) { store_relu(image + row * inner + c, sums); });
        for (int64_t block = 0; block < shape_.blocks(); ++block)
            for (int64_t line = first; line < last; ++line) {
                const bfloat16* from = image + (line - first) * width * inner + block * kLanes;
                bfloat16* to = line_of(image_, line, block);
                ndc::cover<8>(0, width, [&](auto tile, int64_t at) {
                    vec values[decltype(tile)::value];
                    for (int n = 0; n < decltype(tile)::value; ++n) values[n] = load(from + (at + n) * inner);
                    ndc::store_neighbours(to, at, values, shape_.kernel_w > 1);
                });
            }
        multiply_lines(
            first, last, width, packed_.source, inner * Ratio,
            [&](int64_t line) { return PairLeft{image + (line - first) * width * inner, inner, 1, inner}; },
            [&](int64_t line, int64_t column) {
                return [this, to = PanelOf(source_, plane(line), y(line), column)](int64_t x, int64_t c, const auto& sums) {
                    store_sources(to.at(x, c), packed_.source_bias + c, sums);
                };
            });
    }

    // Convolve a ring of source channels to a ring of image channels: S * V, and similar terms of the backward pass.
    void reconstruct(int64_t first, int64_t last, const PairRing& from, const PairRing& to) const {
        const int64_t height = shape_.height;
        for (int64_t line = first; line < last;) {
            const int64_t rows = std::min(last - line, height - y(line));
            for (int64_t block = 0; block < shape_.blocks(); ++block) {
                bfloat16* out = line_of(to, line, block);
                ndc::reconstruct_pairs<Ratio, Kernel>(
                    around(from, line, block), from.row(), filters(block), kernel_, shape_.width, rows,
                    [&](int64_t x, int64_t row, const auto& sums) {
                        ndc::store_neighbours(out + row * to.row(), x, sums, shape_.kernel_w > 1);
                    });
            }
            line += rows;
        }
    }

    // An even ratio has no panel of a single vector.
    template <int Vectors>
    DECONVSEG_INLINE static void store_sources(bfloat16* to, const float* bias, const vec (&sums)[Vectors]) {
        if constexpr (Vectors == 2)
            store_pairs(to, pair_up(relu(sums[0] + load(bias)), relu(sums[1] + load(bias + kLanes))));
    }

    template <int Vectors>
    DECONVSEG_INLINE static void store_relu(bfloat16* to, const vec (&sums)[Vectors]) {
        vec values[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) values[v] = relu(sums[v]);
        store_all(to, values);
    }

    const Shape& shape_;
    const Weights& weights_;
    const PackedPairs& packed_;
    const ndc::Shape kernel_;
    const int64_t step_;
    PairRing image_, source_, explained_;
};

}  // namespace deconvseg::block
