// Gradients of the MLP of a Deconver block in bfloat16, and the weights in the order of the backward pass.
#pragma once

#include "../native/outer_bfloat16.h"
#include "forward_bfloat16.h"
#include "mixer_sums.h"

namespace deconvseg::block {

// Parameters in the order in which the matrix products of the backward pass read them.
struct PackedPairsBackward {
    explicit PackedPairsBackward(const Shape& shape)
        : project_in(packed_size<bfloat16>(shape.inner(), shape.channels)),
          source(packed_size<bfloat16>(shape.inner() * shape.ratio, shape.inner())),
          project_out(packed_size<bfloat16>(shape.inner(), shape.inner() * shape.ratio)),
          expand(packed_size<bfloat16>(shape.inner_hidden(), shape.channels)),
          contract(packed_size<bfloat16>(shape.inner(), shape.hidden)) {}

    void fill(const Worker& worker, const Shape& shape, const Weights& weights) const {
        const int64_t channels = shape.channels, sources = channels * shape.ratio, hidden = shape.hidden;
        const int64_t inner = shape.inner(), inner_sources = inner * shape.ratio;
        const auto row = in_order(channels, 1);
        pack(worker, project_in, inner, channels, weights.project_in, in_order(channels, channels), row);
        pack(worker, source, inner_sources, inner, weights.source, in_paired_blocks(shape, channels), row);
        pack(worker, project_out, inner, inner_sources, weights.project_out, in_order(channels, sources),
             in_blocks(shape, 1));
        pack(worker, expand, shape.inner_hidden(), channels, weights.expand, in_order(hidden, channels), row);
        pack(worker, contract, inner, hidden, weights.contract, in_order(channels, hidden), in_order(hidden, 1));
    }

    BufferOf<bfloat16> project_in, source, project_out, expand, contract;
};

// Rows of an image, padded to whole vectors of zeros in `padding` if they are not.
inline const bfloat16* padded_rows(const bfloat16* rows, int64_t count, int64_t channels, int64_t inner,
                                   bfloat16* padding) {
    if (channels == inner) return rows;
    for (int64_t row = 0; row < count; ++row)
        for (int64_t c = 0; c < inner; c += kLanes)
            store(padding + row * inner + c, load_some(rows + row * channels + c, channels - c));
    return padding;
}

// Backward pass of the MLP, down to the gradient of its normalised input; some voxels at a time, in two steps. The
// operands of the sums over voxels are kept as pairs of voxels.
class PairMlpBackward {
  public:
    PairMlpBackward(const Shape& shape, const Weights& weights, const PackedPairs& packed,
                    const PackedPairsBackward& reversed, const WeightGradients& gradients)
        : shape_(shape),
          weights_(weights),
          packed_(packed),
          reversed_(reversed),
          gradients_(gradients),
          lines_(std::clamp<int64_t>((int64_t{2} << 20) / (shape.inner_hidden() * 4 * kWidth), 2, 32)),
          normal_(lines_ * kWidth * shape.inner()),
          grad_(lines_ * kWidth * shape.inner()),
          active_(lines_ * kWidth * shape.inner_hidden()),
          grad_hidden_(lines_ * kWidth * shape.inner_hidden()),
          scratch_(shape.threads * scratch(shape)) {}

    void run(const Worker& worker, const Statistics& statistics, const bfloat16* z, const bfloat16* grad,
             float* grad_normal) const {
        const int64_t voxels = shape_.voxels(), channels = shape_.channels;
        bfloat16* own = scratch_ + worker.index * scratch(shape_);
        for (int64_t from = 0; from < voxels; from += lines_ * kWidth) {
            const int64_t count = std::min(lines_ * kWidth, voxels - from), whole = count / kWidth;
            worker.share((count + kWidth - 1) / kWidth, [&](int64_t i) {
                const int64_t at = (from + i * kWidth) * channels, rows = std::min(kWidth, count - i * kWidth);
                make(rows, i, statistics, z + at, grad + at, grad_normal + at, own);
            });
            worker.meet();
            // Full lines first, then the remaining voxels as one shorter line.
            sum(worker, 0, whole, kWidth);
            if (count % kWidth != 0) {
                worker.meet();
                sum(worker, whole, whole + 1, count % kWidth);
            }
            worker.meet();
        }
    }

  private:
    static constexpr int64_t kWidth = 64;  // voxels per line
    static int64_t scratch(const Shape& shape) { return 2 * kWidth * (shape.inner() + shape.inner_hidden()); }

    void make(int64_t rows, int64_t line, const Statistics& statistics, const bfloat16* z, const bfloat16* grad,
              float* grad_normal, bfloat16* normal) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden, at = line * kWidth;
        const int64_t inner = shape_.inner(), inner_hidden = shape_.inner_hidden();
        bfloat16 *padding = normal + kWidth * inner, *active = padding + kWidth * inner,
                 *back = active + kWidth * inner_hidden;
        grad = padded_rows(grad, rows, channels, inner, padding);
        statistics.normalise(z, rows, normal);
        multiply(PairLeft{normal, inner, 1, inner}, rows, packed_.expand, hidden,
                 [&](int64_t row, int64_t c, const auto& sums) {
                     const int64_t to = row * inner_hidden + c;
                     store_activations(active + to, back + to, weights_.expand_bias + c, sums, hidden - c);
                 });
        multiply(PairLeft{grad, inner, 1, inner}, rows, reversed_.contract, hidden,
                 [&](int64_t row, int64_t c, const auto& sums) { store_products(back + row * inner_hidden + c, sums); });
        multiply(PairLeft{back, inner_hidden, 1, inner_hidden}, rows, reversed_.expand, channels,
                 [&](int64_t row, int64_t c, const auto& sums) {
                     store_sums(grad_normal + row * channels + c, sums, channels - c);
                 });
        pair_voxels(normal_ + at * inner, normal, rows, inner);
        pair_voxels(grad_ + at * inner, grad, rows, inner);
        pair_voxels(active_ + at * inner_hidden, active, rows, inner_hidden);
        pair_voxels(grad_hidden_ + at * inner_hidden, back, rows, inner_hidden);
    }

    template <int Vectors>
    DECONVSEG_INLINE static void store_activations(bfloat16* active, bfloat16* slopes, const float* bias,
                                                   const vec (&sums)[Vectors], int64_t count) {
        vec values[Vectors], slope[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) {
            const vec value = sums[v] + load_some(bias + v * kLanes, count - v * kLanes);
            values[v] = gelu_for_bfloat16(value), slope[v] = gelu_slope_for_bfloat16(value);
        }
        store_all(active, values);
        store_all(slopes, slope);
    }

    template <int Vectors>
    DECONVSEG_INLINE static void store_products(bfloat16* to, const vec (&sums)[Vectors]) {
        vec values[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) values[v] = load(to + v * kLanes) * sums[v];
        store_all(to, values);
    }

    void sum(const Worker& worker, int64_t first, int64_t last, int64_t width) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden, count = voxel_pairs(width);
        const int64_t inner = shape_.inner(), inner_hidden = shape_.inner_hidden();
        const auto of = [](const bfloat16* values, int64_t columns) {
            return [=](int64_t line, int64_t column) { return values + line * kWidth * columns + 2 * column; };
        };
        const auto normal = of(normal_, inner), outer = of(grad_, inner);
        const auto active = of(active_, inner_hidden), back = of(grad_hidden_, inner_hidden);
        add_outer(worker, gradients_.expand, hidden, channels, first, last, count, back, 2 * inner_hidden, normal,
                        2 * inner);
        add_outer(worker, gradients_.contract, channels, hidden, first, last, count, outer, 2 * inner, active,
                        2 * inner_hidden);
        add_columns(worker, gradients_.expand_bias, hidden, first, last, count, back, 2 * inner_hidden);
        add_columns(worker, gradients_.contract_bias, channels, first, last, count, outer, 2 * inner);
    }

    const Shape& shape_;
    const Weights& weights_;
    const PackedPairs& packed_;
    const PackedPairsBackward& reversed_;
    const WeightGradients& gradients_;
    int64_t lines_;
    BufferOf<bfloat16> normal_, grad_, active_, grad_hidden_, scratch_;
};

}  // namespace deconvseg::block
