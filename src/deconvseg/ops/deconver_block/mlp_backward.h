// Gradients of the MLP of a Deconver block, and the weights in the order of the backward pass.
#pragma once

#include "forward.h"
#include "outer.h"

namespace deconvseg::block {

// Destinations of the gradients: x like the input, the others like the parameters of Weights.
struct Gradients {
    float *x, *project_in, *filters, *source, *source_bias, *project_out, *project_out_bias, *expand, *expand_bias,
        *contract, *contract_bias;
};

// Parameters in the order in which the matrix products of the backward pass read them.
struct PackedBackward {
    explicit PackedBackward(const Shape& shape)
        : project_in(packed_size(shape.inner(), shape.channels)),
          source(packed_size(shape.inner() * shape.lane_ratio(), shape.inner())),
          project_out(packed_size(shape.channels, shape.inner() * shape.lane_ratio())),
          expand(packed_size(shape.hidden, shape.channels)),
          contract(packed_size(shape.channels, shape.hidden)) {}

    void fill(const Worker& worker, const Shape& shape, const Weights& weights) const {
        const int64_t channels = shape.channels, sources = channels * shape.ratio, hidden = shape.hidden;
        const int64_t inner = shape.inner(), inner_sources = inner * shape.lane_ratio();
        const auto row = in_order(channels, 1);
        pack(worker, project_in, inner, channels, weights.project_in, in_order(channels, channels), row);
        pack(worker, source, inner_sources, inner, weights.source, in_blocks(shape, channels),
             in_lanes(shape, 1));
        pack(worker, project_out, channels, inner_sources, weights.project_out, in_order(channels, sources),
             in_blocks(shape, 1));
        pack(worker, expand, hidden, channels, weights.expand, in_order(hidden, channels), row);
        pack(worker, contract, channels, hidden, weights.contract, in_order(channels, hidden), in_order(hidden, 1));
    }

    Buffer project_in, source, project_out, expand, contract;
};

// Backward pass of the MLP, down to the gradient of its normalised input; some voxels at a time, in two steps.
class MlpBackward {
  public:
    MlpBackward(const Shape& shape, const Weights& weights, const Packed& packed, const PackedBackward& reversed,
                const Gradients& gradients)
        : shape_(shape),
          weights_(weights),
          packed_(packed),
          reversed_(reversed),
          gradients_(gradients),
          lines_(std::clamp<int64_t>((int64_t{2} << 20) / (shape.inner_hidden() * 4 * kWidth), 2, 32)),
          normal_(lines_ * kWidth * shape.inner_row()),
          active_(lines_ * kWidth * shape.hidden_row()),
          grad_hidden_(lines_ * kWidth * shape.hidden_row()) {}

    void run(const Worker& worker, const Statistics& statistics, const float* z, const float* grad,
             float* grad_normal) const {
        const int64_t voxels = shape_.voxels(), channels = shape_.channels;
        for (int64_t from = 0; from < voxels; from += lines_ * kWidth) {
            const int64_t count = std::min(lines_ * kWidth, voxels - from);
            const float* grad_here = grad + from * channels;
            worker.share((count + kWidth - 1) / kWidth, [&](int64_t i) {
                const int64_t at = i * kWidth, rows = std::min(kWidth, count - at);
                make(rows, at, statistics, z + (from + at) * channels, grad_here + at * channels,
                     grad_normal + (from + at) * channels);
            });
            worker.meet();
            // Full lines first, then the remaining voxels as one shorter line.
            const int64_t whole = count / kWidth;
            sum(worker, grad_here, 0, whole, kWidth);
            if (count % kWidth != 0) {
                worker.meet();
                sum(worker, grad_here, whole, whole + 1, count % kWidth);
            }
            worker.meet();
        }
    }

  private:
    static constexpr int64_t kWidth = 64;  // voxels per line

    void make(int64_t rows, int64_t at, const Statistics& statistics, const float* z, const float* grad,
              float* grad_normal) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden;
        const int64_t normal_row = shape_.inner_row(), hidden_row = shape_.hidden_row();
        float *normal = normal_ + at * normal_row, *active = active_ + at * hidden_row;
        float* back = grad_hidden_ + at * hidden_row;
        statistics.normalise(z, rows, normal, normal_row);
        multiply(Left{normal, normal_row, 1, channels}, rows, packed_.expand, hidden,
                 [&](int64_t row, int64_t c, vec sums) {
                     const vec value = sums + load_some(weights_.expand_bias + c, hidden - c);
                     store(active + row * hidden_row + c, gelu(value));
                     store(back + row * hidden_row + c, gelu_slope(value));
                 });
        multiply(Left{grad, channels, 1, channels}, rows, reversed_.contract, hidden,
                 [&](int64_t row, int64_t c, vec sums) {
                     float* to = back + row * hidden_row + c;
                     store(to, load(to) * sums);
                 });
        multiply(Left{back, hidden_row, 1, hidden}, rows, reversed_.expand, channels,
                 [&](int64_t row, int64_t c, vec sums) {
                     store_some(grad_normal + row * channels + c, sums, channels - c);
                 });
    }

    void sum(const Worker& worker, const float* grad, int64_t first, int64_t last, int64_t width) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden;
        const auto of = [](const float* values, int64_t columns) {
            return [=](int64_t line, int64_t column) { return values + line * kWidth * columns + column; };
        };
        const int64_t normal_row = shape_.inner_row(), hidden_row = shape_.hidden_row();
        const auto normal = of(normal_, normal_row), outer = of(grad, channels);
        const auto active = of(active_, hidden_row), back = of(grad_hidden_, hidden_row);
        add_outer(worker, gradients_.expand, hidden, channels, first, last, width, back, hidden_row, normal, normal_row);
        add_outer(worker, gradients_.contract, channels, hidden, first, last, width, outer, channels, active,
                  hidden_row);
        add_columns(worker, gradients_.expand_bias, hidden, first, last, width, back, hidden_row);
        add_columns(worker, gradients_.contract_bias, channels, first, last, width, outer, channels);
    }

    const Shape& shape_;
    const Weights& weights_;
    const Packed& packed_;
    const PackedBackward& reversed_;
    const Gradients& gradients_;
    int64_t lines_;
    Buffer normal_, active_, grad_hidden_;
};

}  // namespace deconvseg::block
