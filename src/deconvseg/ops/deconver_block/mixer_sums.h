// Sums over voxels whose rows or columns are sources in blocked order, and the parameters' gradients made of them.
#pragma once

#include "shape.h"

namespace deconvseg::block {

// Destinations of the parameters' gradients, in float32.
struct WeightGradients {
    float *project_in, *filters, *source, *source_bias, *project_out, *project_out_bias, *expand, *expand_bias, *contract,
        *contract_bias;
};

class MixerSums {
  public:
    explicit MixerSums(const Shape& shape)
        : source(shape.inner() * shape.ratio * shape.channels),
          project_out(shape.channels * shape.inner() * shape.ratio),
          source_bias(shape.inner() * shape.ratio),
          shape_(shape),
          parts_(std::min<int64_t>(shape.height, 8)),
          of_block_(shape.taps() * shape.ratio * kLanes),
          filters_(parts_ * shape.blocks() * of_block_) {}

    // One worker does it.
    void clear(const Worker& worker) const {
        if (worker.index != 0) return;
        const int64_t channels = shape_.channels, sources = shape_.inner() * shape_.ratio;
        std::fill_n(static_cast<float*>(source), channels * sources, 0.0f);
        std::fill_n(static_cast<float*>(project_out), channels * sources, 0.0f);
        std::fill_n(static_cast<float*>(source_bias), sources, 0.0f);
        std::fill_n(static_cast<float*>(filters_), parts_ * shape_.blocks() * of_block_, 0.0f);
    }

    // Call add(line, block, sum) for all lines of some planes. A plane's lines are split into parts with sums of their own:
    // enough for all threads, independent of their number.
    template <class Add>
    void share_filters(const Worker& worker, int64_t first, int64_t last, Add add) const {
        const int64_t height = shape_.height;
        worker.share(parts_ * shape_.blocks(), [&](int64_t task) {
            const int64_t part = task % parts_, block = task / parts_;
            for (int64_t plane = first; plane < last; ++plane)
                for (int64_t y = height * part / parts_; y < height * (part + 1) / parts_; ++y)
                    add(plane * height + y, block, filters_ + (part * shape_.blocks() + block) * of_block_);
        });
    }

    void write(const Worker& worker, const Weights& weights, const WeightGradients& to) const {
        const int64_t channels = shape_.channels, sources = channels * shape_.ratio, taps = shape_.taps();
        const int64_t per = shape_.ratio * kLanes, inner_sources = shape_.inner() * shape_.ratio;
        worker.share(inner_sources, [&](int64_t column) {
            const int64_t e = source_channel(shape_, column);
            if (e < 0) return;
            to.source_bias[e] = source_bias[column];
            std::copy_n(source + column * channels, channels, to.source + e * channels);
            for (int64_t c = 0; c < channels; ++c) to.project_out[c * sources + e] = project_out[c * inner_sources + column];
            for (int64_t tap = 0; tap < taps; ++tap) {
                float total = 0;
                for (int64_t part = 0; part < parts_; ++part)
                    total += filters_[(part * shape_.blocks() + column / per) * of_block_ + tap * per + column % per];
                to.filters[e * taps + tap] = weights.filters[e * taps + tap] <= 0 ? 0.0f : total;
            }
        });
    }

    const Buffer source, project_out, source_bias;  // (sources, channels) and so on

  private:
    const Shape& shape_;
    int64_t parts_, of_block_;
    Buffer filters_;
};

}  // namespace deconvseg::block
