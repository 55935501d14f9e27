// The steps of the mixer in bfloat16 that both passes share.
#pragma once

#include "../native/bfloat16.h"
#include "../ndc/pairs.h"
#include "rings.h"

namespace deconvseg::block {

template <>
class Filters<bfloat16> {
  public:
    explicit Filters(const Shape& shape)
        : shape_{shape.kernel_d, shape.kernel_h, shape.kernel_w, shape.lane_ratio()},
          size_(shape.taps() * shape_.sources * kLanes),
          adjoint_size_(shape.kernel_d * shape.kernel_h * 2 * ndc::tap_pairs(shape_) * shape_.sources * kLanes),
          filters_(shape.blocks() * size_),
          adjoint_(shape.blocks() * adjoint_size_) {}

    // Pack a block's filters, given by value(tap, r, lane).
    template <class Value>
    void fill(int64_t block, Value value) const {
        ndc::pack_pairs(filters_ + block * size_, adjoint_ + block * adjoint_size_, shape_, value);
    }
    const bfloat16* of(int64_t block) const { return filters_ + block * size_; }
    const bfloat16* adjoint_of(int64_t block) const { return adjoint_ + block * adjoint_size_; }

  private:
    ndc::Shape shape_;
    int64_t size_, adjoint_size_;
    BufferOf<bfloat16> filters_, adjoint_;
};

template <int Ratio, int Kernel>
class Planes<bfloat16, Ratio, Kernel> : public Rings<bfloat16, Ratio> {
    using Base = Rings<bfloat16, Ratio>;

  public:
    using Base::Base;

    // Numbers that a worker needs in addition to the rings.
    static int64_t scratch(const Shape& shape) { return 2 * lines_per_task(shape) * shape.width * shape.inner(); }

  protected:
    using Base::around, Base::explained_, Base::image_, Base::kernel_, Base::line_of, Base::packed_, Base::panel,
        Base::plane, Base::shape_, Base::source_, Base::y;

    // Compute X = relu(W norm(x)) and the first source S = relu(W X + b) for some lines.
    void make(int64_t first, int64_t last, const Statistics& statistics, const bfloat16* x, bfloat16* scratch) const {
        const int64_t inner = shape_.inner(), width = shape_.width, rows = (last - first) * width;
        bfloat16 *normal = scratch, *image = scratch + rows * inner;
        statistics.normalise(x + first * width * shape_.channels, rows, normal);
        multiply(LeftOf<bfloat16>{normal, inner, 1, inner}, rows, packed_.project_in, inner,
                 [&](int64_t row, int64_t c, const auto& sums) {
                     store_each(image + row * inner + c, sums, [](vec sum, int64_t) { return relu(sum); });
                 });
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
            [&](int64_t line) { return LeftOf<bfloat16>{image + (line - first) * width * inner, inner, 1, inner}; },
            [&](int64_t line, int64_t column) {
                return [this, to = panel(source_, line, column)](int64_t x, int64_t c, const auto& sums) {
                    store_sources(to.at(x, c), packed_.source_bias + c, sums);
                };
            });
    }

    // Convolve a ring of source channels to a ring of image channels: S * V, and similar terms of the backward pass.
    void reconstruct(int64_t first, int64_t last, const RingOf<bfloat16>& from, const RingOf<bfloat16>& to) const {
        const int64_t height = shape_.height;
        for (int64_t line = first; line < last;) {
            const int64_t rows = std::min(last - line, height - y(line));
            for (int64_t block = 0; block < shape_.blocks(); ++block) {
                bfloat16* out = line_of(to, line, block);
                ndc::reconstruct_pairs<Ratio, Kernel>(
                    around(from, line, block), from.row(), filters(block), kernel_, shape_.width, rows,
                    [&](int64_t x, int64_t row, auto& sums) {
                        fold_all(sums);
                        ndc::store_neighbours(out + row * to.row(), x, sums, shape_.kernel_w > 1);
                    });
            }
            line += rows;
        }
    }

    // Eq. 7 in place, because the old source has no other reader.
    void update_line(int64_t line, int64_t block) const {
        ndc::update_row<Ratio, Kernel>(line_of(source_, line, block), around(image_, line, block),
                                       around(explained_, line, block), image_.row(), adjoint(block), kernel_,
                                       shape_.width, shape_.eps);
    }

    // If the halves of the lanes hold different sources, add the sums of both in each.
    template <int N>
    DECONVSEG_INLINE void fold_all(vec (&sums)[N]) const {
        if (shape_.lane_parts == 1) return;
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sums[n] = fold(sums[n]);
    }

    const bfloat16* filters(int64_t block) const { return packed_.filters.of(block); }
    const bfloat16* adjoint(int64_t block) const { return packed_.filters.adjoint_of(block); }

  private:
    // An even ratio has no panel of a single vector.
    template <int Vectors>
    DECONVSEG_INLINE static void store_sources(bfloat16* to, const float* bias, const vec (&sums)[Vectors]) {
        if constexpr (Vectors == 2)
            store_pairs(to, pair_up(relu(sums[0] + load(bias)), relu(sums[1] + load(bias + kLanes))));
    }
};

}  // namespace deconvseg::block
