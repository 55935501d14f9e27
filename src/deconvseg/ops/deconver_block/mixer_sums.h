// Sums over voxels whose rows or columns are sources in blocked order, and the parameters' gradients made of them.
#pragma once

#include "shape.h"

namespace deconvseg::block {

// Destinations of the parameters' gradients, in float32.
struct WeightGradients {
    float *project_in, *filters, *source, *source_bias, *project_out, *project_out_bias, *expand, *expand_bias, *contract,
        *contract_bias;
};

inline WeightGradients gradients_of(float* const* gradients) {
    return {gradients[0], gradients[1], gradients[2], gradients[3], gradients[4],
            gradients[5], gradients[6], gradients[7], gradients[8], gradients[9]};
}

class MixerSums {
  public:
    explicit MixerSums(const Shape& shape)
        : source(shape.inner_sources() * shape.channels),
          project_out(shape.channels * shape.inner_sources()),
          source_bias(shape.inner_sources()),
          shape_(shape),
          by_planes_(shape.height < kParts),
          parts_(by_planes_ ? std::min(shape.depth, kParts) : kParts),
          of_block_(shape.taps() * shape.lane_ratio() * kLanes),
          filters_(parts_ * shape.blocks() * of_block_) {}

    void clear(const Worker& worker) const {
        const int64_t channels = shape_.channels, sources = shape_.inner_sources();
        worker.share(sources, [&](int64_t row) {
            std::fill_n(source + row * channels, channels, 0.0f);
            std::fill_n(project_out + row * channels, channels, 0.0f);
        });
        if (worker.index != 0) return;
        std::fill_n(static_cast<float*>(source_bias), sources, 0.0f);
        std::fill_n(static_cast<float*>(filters_), parts_ * shape_.blocks() * of_block_, 0.0f);
    }

    // Call add(line, block, sum) for all lines of some planes. They are split into parts with sums of their own: enough for
    // all threads, independent of their number. Planes of few lines, as those of 2D images, which have one, are dealt to
    // the parts in turn.
    template <class Add>
    void share_filters(const Worker& worker, int64_t first, int64_t last, Add add) const {
        const int64_t height = shape_.height;
        worker.share(parts_ * shape_.blocks(), [&](int64_t task) {
            const int64_t part = task % parts_, block = task / parts_;
            for (int64_t plane = first; plane < last; ++plane) {
                if (by_planes_ && plane % parts_ != part) continue;
                const int64_t from = by_planes_ ? 0 : height * part / parts_;
                const int64_t to = by_planes_ ? height : height * (part + 1) / parts_;
                for (int64_t y = from; y < to; ++y)
                    add(plane * height + y, block, filters_ + (part * shape_.blocks() + block) * of_block_);
            }
        });
    }

    void write(const Worker& worker, const Weights& weights, const WeightGradients& to) const {
        const int64_t channels = shape_.channels, sources = channels * shape_.ratio, taps = shape_.taps();
        const int64_t per = shape_.lane_ratio() * kLanes, inner_sources = shape_.inner_sources();
        worker.share(inner_sources / kLanes, [&](int64_t vector) {
            const int64_t first = vector * kLanes, block = first / per;
            int64_t channel[kLanes];
            for (int64_t j = 0; j < kLanes; ++j) channel[j] = source_channel(shape_, first + j);
            // Row by row: down the columns, every element would be in another cache line.
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t j = 0; j < kLanes; ++j)
                    if (channel[j] >= 0)
                        to.project_out[c * sources + channel[j]] = project_out[c * inner_sources + first + j];
            for (int64_t j = 0; j < kLanes; ++j) {
                const int64_t e = channel[j], column = first + j;
                if (e < 0) continue;
                to.source_bias[e] = source_bias[column];
                std::copy_n(source + column * channels, channels, to.source + e * channels);
                for (int64_t tap = 0; tap < taps; ++tap) {
                    float total = 0;
                    for (int64_t part = 0; part < parts_; ++part)
                        total += filters_[(part * shape_.blocks() + block) * of_block_ + tap * per + column % per];
                    to.filters[e * taps + tap] = weights.filters[e * taps + tap] <= 0 ? 0.0f : total;
                }
            }
        });
    }

    const Buffer source, project_out, source_bias;  // (sources, channels) and so on

  private:
    static constexpr int64_t kParts = 8;

    const Shape& shape_;
    bool by_planes_;
    int64_t parts_, of_block_;
    Buffer filters_;
};

}  // namespace deconvseg::block
