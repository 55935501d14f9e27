// Gradients of the MLP of a Deconver block.
#pragma once

#include "forward.h"
#include "mixer_sums.h"
#include "outer.h"

namespace deconvseg::block {

// The slope of GELU to the rounding of T.
template <class T>
DECONVSEG_INLINE vec gelu_slope_for(vec x) {
    if constexpr (Operands<T>::kDepth == 1)
        return gelu_slope(x);
    else
        return gelu_slope_for_bfloat16(x);
}

// Rows of an image as the left matrix of a product; in bfloat16 they are padded with zeros to whole vectors, in
// `padding`.
template <class T>
LeftOf<T> left_of_image(const T* rows, int64_t count, int64_t channels, T* padding) {
    const int64_t depth = depth_of<T>(channels);
    if (channels == depth) return {rows, channels, 1, channels};
    for (int64_t row = 0; row < count; ++row)
        for (int64_t c = 0; c < depth; c += kLanes)
            store(padding + row * depth + c, load_some(rows + row * channels + c, channels - c));
    return {padding, depth, 1, depth};
}

// Backward pass of the MLP, down to the gradient of its normalised input; some voxels at a time, in two steps. In
// float32 the products of the first step write the operands of the sums over voxels; in bfloat16 they write rows of the
// worker's memory, of which pairs of voxels are kept.
template <class T>
class MlpBackward {
    static constexpr bool kPairs = Operands<T>::kDepth == 2;

  public:
    MlpBackward(const Shape& shape, const Weights& weights, const Packed<T>& packed, const PackedBackward<T>& reversed,
                const WeightGradients& gradients)
        : shape_(shape),
          weights_(weights),
          packed_(packed),
          reversed_(reversed),
          gradients_(gradients),
          row_(kPairs ? shape.inner() : shape.inner_row()),
          hidden_row_(kPairs ? shape.inner_hidden() : shape.hidden_row()),
          lines_(std::clamp<int64_t>((int64_t{2} << 20) / (shape.inner_hidden() * 4 * kWidth), 2, 32)),
          normal_(lines_ * kWidth * row_),
          grad_(kPairs ? lines_ * kWidth * row_ : 0),
          active_(lines_ * kWidth * hidden_row_),
          grad_hidden_(lines_ * kWidth * hidden_row_),
          scratch_(kPairs ? shape.threads * scratch() : 0) {}

    void run(const Worker& worker, const Statistics& statistics, const T* z, const T* grad, float* grad_normal) const {
        const int64_t voxels = shape_.voxels(), channels = shape_.channels;
        T* own = scratch_ + worker.index * scratch();
        for (int64_t from = 0; from < voxels; from += lines_ * kWidth) {
            const int64_t count = std::min(lines_ * kWidth, voxels - from), whole = count / kWidth;
            const T* grad_here = grad + from * channels;
            worker.share((count + kWidth - 1) / kWidth, [&](int64_t i) {
                const int64_t at = (from + i * kWidth) * channels, rows = std::min(kWidth, count - i * kWidth);
                make(rows, i * kWidth, statistics, z + at, grad + at, grad_normal + at, own);
            });
            worker.meet();
            // Full lines first, then the remaining voxels as one shorter line.
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

    // Rows of a worker: norm(z), the padded gradient, the activations and the gradient of the hidden channels.
    int64_t scratch() const { return 2 * kWidth * (row_ + hidden_row_); }

    void make(int64_t rows, int64_t at, const Statistics& statistics, const T* z, const T* grad, float* grad_normal,
              T* own) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden;
        T *normal = kPairs ? own : normal_ + at * row_, *padding = own + kWidth * row_;
        T *active = kPairs ? padding + kWidth * row_ : active_ + at * hidden_row_;
        T *back = kPairs ? active + kWidth * hidden_row_ : grad_hidden_ + at * hidden_row_;
        const LeftOf<T> left = left_of_image(grad, rows, channels, padding);
        statistics.normalise(z, rows, normal, row_);
        multiply(LeftOf<T>{normal, row_, 1, depth_of<T>(channels)}, rows, packed_.expand, hidden,
                 [&](int64_t row, int64_t c, const auto& sums) {
                     const int64_t to = row * hidden_row_ + c;
                     const auto biased = [&](vec sum, int64_t v) {
                         return sum + load_some(weights_.expand_bias + c + v, hidden - c - v);
                     };
                     store_each(active + to, sums, [&](vec sum, int64_t v) { return gelu_for<T>(biased(sum, v)); });
                     store_each(back + to, sums, [&](vec sum, int64_t v) { return gelu_slope_for<T>(biased(sum, v)); });
                 });
        multiply(left, rows, reversed_.contract, hidden, [&](int64_t row, int64_t c, const auto& sums) {
            T* to = back + row * hidden_row_ + c;
            store_each(to, sums, [&](vec sum, int64_t v) { return load(to + v) * sum; });
        });
        multiply(LeftOf<T>{back, hidden_row_, 1, depth_of<T>(hidden)}, rows, reversed_.expand, channels,
                 [&](int64_t row, int64_t c, const auto& sums) {
                     float* to = grad_normal + row * channels + c;
                     store_each(to, sums, channels - c, [](vec sum, int64_t) { return sum; });
                 });
        if constexpr (kPairs) {
            pair_voxels(normal_ + at * row_, normal, rows, row_);
            pair_voxels(grad_ + at * row_, left.data, rows, row_);
            pair_voxels(active_ + at * hidden_row_, active, rows, hidden_row_);
            pair_voxels(grad_hidden_ + at * hidden_row_, back, rows, hidden_row_);
        }
    }

    // An operand of the sums over voxels, in rows of `row` elements.
    struct Operand {
        const T* data;
        int64_t row;

        int64_t step() const { return Operands<T>::kDepth * row; }
        const T* operator()(int64_t line, int64_t column) const {
            return data + line * kWidth * row + Operands<T>::kDepth * column;
        }
    };

    void sum(const Worker& worker, const T* grad, int64_t first, int64_t last, int64_t width) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden;
        const int64_t count = (width + Operands<T>::kDepth - 1) / Operands<T>::kDepth;
        const Operand normal{normal_, row_}, active{active_, hidden_row_}, back{grad_hidden_, hidden_row_};
        const Operand outer = kPairs ? Operand{grad_, row_} : Operand{grad, channels};
        add_outer(worker, gradients_.expand, hidden, channels, first, last, count, back, back.step(), normal,
                  normal.step());
        add_outer(worker, gradients_.contract, channels, hidden, first, last, count, outer, outer.step(), active,
                  active.step());
        add_columns(worker, gradients_.expand_bias, hidden, first, last, count, back, back.step());
        add_columns(worker, gradients_.contract_bias, channels, first, last, count, outer, outer.step());
    }

    const Shape& shape_;
    const Weights& weights_;
    const Packed<T>& packed_;
    const PackedBackward<T>& reversed_;
    const WeightGradients& gradients_;
    int64_t row_, hidden_row_, lines_;
    BufferOf<T> normal_, grad_, active_, grad_hidden_, scratch_;
};

}  // namespace deconvseg::block
