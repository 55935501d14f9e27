// The steps of the mixer in float32 that both passes share.
#pragma once

#include "rings.h"

namespace deconvseg::block {

template <>
class Filters<float> {
  public:
    explicit Filters(const Shape& shape)
        : taps_(shape.taps()), sources_(shape.lane_ratio()), data_(shape.blocks() * taps_ * sources_ * kLanes) {}

    // Pack a block's filters, given by value(tap, r, lane).
    template <class Value>
    void fill(int64_t block, Value value) const {
        float* to = data_ + block * taps_ * sources_ * kLanes;
        for (int64_t tap = 0; tap < taps_; ++tap)
            for (int64_t r = 0; r < sources_; ++r)
                for (int64_t lane = 0; lane < kLanes; ++lane) *to++ = value(tap, r, lane);
    }
    const float* of(int64_t block) const { return data_ + block * taps_ * sources_ * kLanes; }

  private:
    int64_t taps_, sources_;
    Buffer data_;
};

template <int Ratio, int Kernel>
class Planes<float, Ratio, Kernel> : public Rings<float, Ratio> {
    using Base = Rings<float, Ratio>;

  public:
    using Base::Base;

    // Floats that a worker needs in addition to the rings.
    static int64_t scratch(const Shape& shape) { return lines_per_task(shape) * shape.width * shape.inner_row(); }

  protected:
    using Base::around, Base::explained_, Base::image_, Base::kernel_, Base::line_of, Base::packed_, Base::panel,
        Base::plane, Base::shape_, Base::source_, Base::y;

    // Compute X = relu(W norm(x)) and the first source S = relu(W X + b) for some lines.
    void make(int64_t first, int64_t last, const Statistics& statistics, const float* x, float* scratch) const {
        const int64_t channels = shape_.channels, inner = shape_.inner(), row = shape_.inner_row();
        const int64_t width = shape_.width;
        statistics.normalise(x + first * width * channels, (last - first) * width, scratch, row);
        multiply_lines(
            first, last, width, packed_.project_in, inner,
            [&](int64_t line) { return Left{scratch + (line - first) * width * row, row, 1, channels}; },
            [&](int64_t line, int64_t column) {
                return [to = panel(image_, line, column)](int64_t x, int64_t c, vec sums) {
                    store(to.at(x, c), relu(sums));
                };
            });
        multiply_lines(
            first, last, width, packed_.source, inner * Ratio,
            [&](int64_t line) { return image_.left(plane(line), y(line)); },
            [&](int64_t line, int64_t column) {
                return [this, to = panel(source_, line, column)](int64_t x, int64_t c, vec sums) {
                    store(to.at(x, c), relu(sums + load(packed_.source_bias + c)));
                };
            });
    }

    // Convolve a ring of source channels to a ring of image channels: S * V, and similar terms of the backward pass.
    void reconstruct(int64_t first, int64_t last, const Ring& from, const Ring& to) const {
        for (int64_t line = first, end; line < last; line = end) {
            end = std::min(last, (plane(line) + 1) * shape_.height);
            for (int64_t block = 0; block < shape_.blocks(); ++block)
                ndc::reconstruct_rows<Ratio, Kernel>(line_of(to, line, block), to.row(), false,
                                                     around(from, line, block), from.row(), filters(block), kernel_,
                                                     shape_.width, end - line);
            if (shape_.lane_parts == 2) fold_lines(line, end, to);
        }
    }

    // Eq. 7 in place, because the old source has no other reader.
    void update_line(int64_t line, int64_t block) const {
        float* source = line_of(source_, line, block);
        ndc::update_row<Ratio, Kernel>(source, source, around(image_, line, block), around(explained_, line, block),
                                       image_.row(), filters(block), kernel_, shape_.width, shape_.eps);
    }

    const float* filters(int64_t block) const { return packed_.filters.of(block); }

  private:
    void fold_lines(int64_t first, int64_t last, const Ring& ring) const {
        for (int64_t line = first; line < last; ++line) {
            float* of = line_of(ring, line, 0);
            for (int64_t x = 0; x < shape_.width; ++x) store(of + x * kLanes, fold(load(of + x * kLanes)));
        }
    }
};

}  // namespace deconvseg::block
