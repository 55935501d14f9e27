// Gradients of the MLP of a Deconver block in bfloat16, and the weights in the order of the backward pass.
#pragma once

#include "../native/outer_bfloat16.h"
#include "forward_bfloat16.h"
#include "mixer_sums.h"

namespace deconvseg::block {

// Parameters in the order in which the matrix products of the backward pass read them.
struct PackedPairsBackward {
    explicit PackedPairsBackward(const Shape& shape)
        : project_in(packed_size<bfloat16>(shape.channels, shape.channels)),
          source(packed_size<bfloat16>(shape.channels * shape.ratio, shape.channels)),
          project_out(packed_size<bfloat16>(shape.channels, shape.channels * shape.ratio)),
          expand(packed_size<bfloat16>(shape.hidden, shape.channels)),
          contract(packed_size<bfloat16>(shape.channels, shape.hidden)) {}

    void fill(const Worker& worker, const Shape& shape, const Weights& weights) const {
        const int64_t channels = shape.channels, sources = channels * shape.ratio, hidden = shape.hidden;
        pack(worker, project_in, channels, channels,
             [&](int64_t k, int64_t column) { return weights.project_in[k * channels + column]; });
        pack(worker, source, sources, channels,
             [&](int64_t k, int64_t column) { return weights.source[paired_channel(shape, k) * channels + column]; });
        pack(worker, project_out, channels, sources, [&](int64_t k, int64_t column) {
            return weights.project_out[k * sources + source_channel(shape, column)];
        });
        pack(worker, expand, hidden, channels,
             [&](int64_t k, int64_t column) { return weights.expand[k * channels + column]; });
        pack(worker, contract, channels, hidden,
             [&](int64_t k, int64_t column) { return weights.contract[k * hidden + column]; });
    }

    BufferOf<bfloat16> project_in, source, project_out, expand, contract;
};

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
          lines_(std::clamp<int64_t>((int64_t{2} << 20) / (shape.hidden * 4 * kWidth), 2, 32)),
          normal_(lines_ * kWidth * shape.channels),
          grad_(lines_ * kWidth * shape.channels),
          active_(lines_ * kWidth * shape.hidden),
          grad_hidden_(lines_ * kWidth * shape.hidden),
          scratch_(shape.threads * kWidth * (shape.channels + 2 * shape.hidden)) {}

    void run(const Worker& worker, const Statistics& statistics, const bfloat16* z, const bfloat16* grad,
             float* grad_normal) const {
        const int64_t voxels = shape_.voxels(), channels = shape_.channels;
        bfloat16* scratch = scratch_ + worker.index * kWidth * (channels + 2 * shape_.hidden);
        for (int64_t from = 0; from < voxels; from += lines_ * kWidth) {
            const int64_t count = std::min(lines_ * kWidth, voxels - from), whole = count / kWidth;
            worker.share((count + kWidth - 1) / kWidth, [&](int64_t i) {
                const int64_t at = (from + i * kWidth) * channels, rows = std::min(kWidth, count - i * kWidth);
                make(rows, i, statistics, z + at, grad + at, grad_normal + at, scratch);
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

    void make(int64_t rows, int64_t line, const Statistics& statistics, const bfloat16* z, const bfloat16* grad,
              float* grad_normal, bfloat16* normal) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden, at = line * kWidth;
        bfloat16 *active = normal + kWidth * channels, *back = active + kWidth * hidden;
        statistics.normalise(z, rows, normal);
        multiply(PairLeft{normal, channels, 1, channels}, rows, packed_.expand, hidden,
                 [&](int64_t row, int64_t c, const auto& sums) {
                     const int64_t to = row * hidden + c;
                     store_activations(active + to, back + to, weights_.expand_bias + c, sums);
                 });
        multiply(PairLeft{grad, channels, 1, channels}, rows, reversed_.contract, hidden,
                 [&](int64_t row, int64_t c, const auto& sums) { store_products(back + row * hidden + c, sums); });
        multiply(PairLeft{back, hidden, 1, hidden}, rows, reversed_.expand, channels,
                 [&](int64_t row, int64_t c, const auto& sums) { store_sums(grad_normal + row * channels + c, sums); });
        pair_voxels(normal_ + at * channels, normal, rows, channels);
        pair_voxels(grad_ + at * channels, grad, rows, channels);
        pair_voxels(active_ + at * hidden, active, rows, hidden);
        pair_voxels(grad_hidden_ + at * hidden, back, rows, hidden);
    }

    template <int Vectors>
    DECONVSEG_INLINE static void store_activations(bfloat16* active, bfloat16* slopes, const float* bias,
                                                   const vec (&sums)[Vectors]) {
        vec values[Vectors], slope[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) {
            const vec value = sums[v] + load(bias + v * kLanes);
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
        const auto of = [](const bfloat16* values, int64_t columns) {
            return [=](int64_t line, int64_t column) { return values + line * kWidth * columns + 2 * column; };
        };
        const auto normal = of(normal_, channels), outer = of(grad_, channels);
        const auto active = of(active_, hidden), back = of(grad_hidden_, hidden);
        add_outer_pairs(worker, gradients_.expand, hidden, channels, first, last, count, back, 2 * hidden, normal,
                        2 * channels);
        add_outer_pairs(worker, gradients_.contract, channels, hidden, first, last, count, outer, 2 * channels, active,
                        2 * hidden);
        add_columns_of_pairs(worker, gradients_.expand_bias, hidden, first, last, count, back, 2 * hidden);
        add_columns_of_pairs(worker, gradients_.contract_bias, channels, first, last, count, outer, 2 * channels);
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
