// A Deconver block (Deconver, Eq. 4 to 7) in two passes; planes of the mixer are kept in ring buffers that stay in
// cache.
#pragma once

#include "../ndc/kernels.h"
#include "gelu.h"
#include "shape.h"

namespace deconvseg::block {

// Parameters in the order in which the matrix products and row kernels read them.
struct Packed {
    Packed(const Shape& shape, Pass pass)
        : forward(pass == Pass::kForward),
          project_in(packed_size(shape.channels, shape.inner())),
          source(packed_size(shape.inner(), shape.inner() * shape.lane_ratio())),
          project_out(forward ? packed_size(shape.inner() * shape.lane_ratio(), shape.channels) : 0),
          expand(packed_size(shape.channels, shape.hidden)),
          contract(forward ? packed_size(shape.hidden, shape.channels) : 0),
          filters(shape.inner() * shape.lane_ratio() * shape.taps()),
          source_bias(shape.inner() * shape.lane_ratio()) {}

    bool forward;
    Buffer project_in, source, project_out, expand, contract, filters, source_bias;
};

inline void pack_mixer(const Worker& worker, const Shape& shape, const Weights& weights, Packed& packed) {
    const int64_t channels = shape.channels, sources = channels * shape.ratio, taps = shape.taps();
    const int64_t inner = shape.inner(), inner_sources = inner * shape.lane_ratio();
    pack(worker, packed.project_in, channels, inner, weights.project_in, in_order(channels, 1),
         in_lanes(shape, channels));
    pack(worker, packed.source, inner, inner_sources, weights.source, in_order(channels, 1), in_blocks(shape, channels));
    if (packed.forward)
        pack(worker, packed.project_out, inner_sources, channels, weights.project_out, in_blocks(shape, 1),
             in_order(channels, sources));
    worker.share(shape.blocks(), [&](int64_t block) {
        const int64_t per = shape.lane_ratio() * kLanes;
        float* of = packed.filters + block * taps * per;
        for (int64_t tap = 0; tap < taps; ++tap)
            for (int64_t j = 0; j < per; ++j) {
                const int64_t e = source_channel(shape, block * per + j);
                const float value = e >= 0 ? weights.filters[e * taps + tap] : 0.0f;
                of[tap * per + j] = value < 0 ? 0.0f : value;
            }
        for (int64_t j = 0; j < per; ++j) {
            const int64_t e = source_channel(shape, block * per + j);
            packed.source_bias[block * per + j] = e >= 0 ? weights.source_bias[e] : 0.0f;
        }
    });
}

inline void pack_mlp(const Worker& worker, const Shape& shape, const Weights& weights, Packed& packed) {
    const int64_t channels = shape.channels, hidden = shape.hidden;
    pack(worker, packed.expand, channels, hidden, weights.expand, in_order(channels, 1), in_order(hidden, channels));
    if (packed.forward)
        pack(worker, packed.contract, hidden, channels, weights.contract, in_order(hidden, 1), in_order(channels, hidden));
}

// Planes of the mixer in ring buffers, and the row kernels of each of its steps.
template <int Ratio, int Kernel>
class Planes {
  public:
    // `lag` is the number of margins between the newest plane and the oldest plane that is still needed, `step` that of
    // planes per step.
    Planes(const Shape& shape, const Weights& weights, const Packed& packed, int64_t lag, int64_t step)
        : shape_(shape),
          weights_(weights),
          packed_(packed),
          kernel_{shape.kernel_d, shape.kernel_h, shape.kernel_w, Ratio},
          step_(step),
          image_(shape, step_ + lag * shape.margin(), 1),
          source_(shape, step_ + lag * shape.margin(), Ratio),
          explained_(shape, step_ + lag * shape.margin(), 1) {}

    void clear(const Worker& worker) const {
        image_.clear(worker);
        source_.clear(worker);
        explained_.clear(worker);
    }

    // Floats that a worker needs in addition to the rings.
    static int64_t scratch(const Shape& shape) { return lines_per_task(shape) * shape.width * shape.inner_row(); }

  protected:
    // Number of planes whose neighbours are all available if `count` planes are.
    int64_t ready(int64_t count) const {
        return count == shape_.depth ? count : std::max<int64_t>(0, count - shape_.margin());
    }
    int64_t plane(int64_t line) const { return line / shape_.height; }
    int64_t y(int64_t line) const { return line % shape_.height; }
    const float* filters(int64_t block) const { return packed_.filters + block * shape_.taps() * Ratio * kLanes; }
    float* line_of(const Ring& ring, int64_t line, int64_t block) const {
        return ring.line(plane(line), block, y(line));
    }
    float* at(const Ring& ring, int64_t line, int64_t column) const {
        return ring.at(plane(line), y(line), 0, column);
    }
    PanelOf<float> panel(const Ring& ring, int64_t line, int64_t column) const {
        return {ring, plane(line), y(line), column};
    }

    // The planes around a line of a block, in the form that row kernels take.
    struct Taps {
        const float* planes[kDepthTaps];
        operator const float* const*() const { return planes; }
    };
    Taps around(const Ring& ring, int64_t line, int64_t block) const {
        Taps taps;
        for (int64_t k = 0; k < shape_.kernel_d; ++k)
            taps.planes[k] = ring.taps(plane(line) + k - shape_.margin(), block, y(line));
        return taps;
    }

    // Compute X = relu(W norm(x)) and the first source S = relu(W X + b) for some lines.
    void make(int64_t first, int64_t last, const Statistics& statistics, const float* x, float* scratch) const {
        const int64_t channels = shape_.channels, inner = shape_.inner(), row = shape_.inner_row();
        const int64_t width = shape_.width;
        statistics.normalise(x + first * width * channels, (last - first) * width, scratch, row);
        multiply_lines(
            first, last, width, packed_.project_in, inner,
            [&](int64_t line) { return Left{scratch + (line - first) * width * row, row, 1, channels}; },
            [&](int64_t line, int64_t column) {
                return [to = panel(image_, line, column)](int64_t x, int64_t c, vec sums) { store(to.at(x, c), relu(sums)); };
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
            if (shape_.lane_parts == 2) fold(line, end, to);
        }
    }

    // Add the sums of the sources in one half of the lanes to those in the other half.
    void fold(int64_t first, int64_t last, const Ring& ring) const {
        for (int64_t line = first; line < last; ++line) {
            float* of = line_of(ring, line, 0);
            for (int64_t x = 0; x < shape_.width; ++x) {
                const vec sums = load(of + x * kLanes);
                store(of + x * kLanes, sums + exchange_halves(sums, kAllLanes));
            }
        }
    }

    const Shape& shape_;
    const Weights& weights_;
    const Packed& packed_;
    ndc::Shape kernel_;
    int64_t step_;
    Ring image_, source_, explained_;
};

// The mixer and its residual connection, from x to z (both of one sample with the channels innermost).
template <int Ratio, int Kernel>
class Mixer : public Planes<Ratio, Kernel> {
    using Base = Planes<Ratio, Kernel>;
    using Base::explained_, Base::image_, Base::kernel_, Base::packed_, Base::ready, Base::shape_,
        Base::source_, Base::step_, Base::weights_;

  public:
    Mixer(const Shape& shape, const Weights& weights, const Packed& packed)
        : Base(shape, weights, packed, 3, planes_at_once(shape)) {}

    void run(const Worker& worker, const Statistics& statistics, const float* x, float* z, float* scratch) const {
        int64_t made = 0, explained = 0, done = 0;
        while (done < shape_.depth) {
            const int64_t made_next = std::min(shape_.depth, made + step_);
            share_lines(worker, shape_, made, made_next,
                        [&](int64_t a, int64_t b) { this->make(a, b, statistics, x, scratch); });
            worker.meet();
            const int64_t explained_next = ready(made_next);
            share_lines(worker, shape_, explained, explained_next,
                        [&](int64_t a, int64_t b) { this->reconstruct(a, b, source_, explained_); }, kStrip);
            worker.meet();
            const int64_t done_next = ready(explained_next);
            share_lines(worker, shape_, done, done_next, [&](int64_t a, int64_t b) {
                update(a, b);
                finish(a, b, x, z);
            });
            worker.meet();
            made = made_next, explained = explained_next, done = done_next;
        }
    }

  private:
    // Eq. 7 in place, because the old source has no other reader.
    void update(int64_t first, int64_t last) const {
        for (int64_t block = 0; block < shape_.blocks(); ++block)
            for (int64_t line = first; line < last; ++line) {
                float* source = this->line_of(source_, line, block);
                ndc::update_row<Ratio, Kernel>(source, source, this->around(image_, line, block),
                                               this->around(explained_, line, block), image_.row(),
                                               this->filters(block), kernel_, shape_.width, shape_.eps);
            }
    }

    // z = x + W S + b.
    void finish(int64_t first, int64_t last, const float* x, float* z) const {
        const int64_t channels = shape_.channels, width = shape_.width;
        multiply_lines(
            first, last, width, packed_.project_out, channels,
            [&](int64_t line) { return source_.left(this->plane(line), this->y(line)); },
            [&](int64_t line, int64_t) {
                return [=](int64_t at, int64_t c, vec sums) {
                    const int64_t to = (line * width + at) * channels + c;
                    const int64_t count = channels - c;
                    const vec bias = load_some(weights_.project_out_bias + c, count);
                    store_some(z + to, load_some(x + to, count) + (sums + bias), count);
                };
            });
    }
};

// The MLP and its residual connection, from z to y (which may be z), a few voxels at a time.
class Mlp {
  public:
    Mlp(const Shape& shape, const Weights& weights, const Packed& packed)
        : shape_(shape), weights_(weights), packed_(packed) {}

    static constexpr int64_t kVoxels = 128;  // per task
    static int64_t scratch(const Shape& shape) { return kVoxels * (shape.inner_row() + shape.hidden_row()); }

    void run(const Worker& worker, const Statistics& statistics, const float* z, float* y, float* scratch) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden, voxels = shape_.voxels();
        const int64_t normal_row = shape_.inner_row(), hidden_row = shape_.hidden_row();
        float* normal = scratch + kVoxels * hidden_row;
        worker.share((voxels + kVoxels - 1) / kVoxels, [&](int64_t i) {
            const float* from = z + i * kVoxels * channels;
            float* to = y + i * kVoxels * channels;
            const int64_t rows = std::min(kVoxels, voxels - i * kVoxels);
            statistics.normalise(from, rows, normal, normal_row);
            multiply(Left{normal, normal_row, 1, channels}, rows, packed_.expand, hidden,
                     [&](int64_t row, int64_t c, vec sums) {
                         const vec bias = load_some(weights_.expand_bias + c, hidden - c);
                         store(scratch + row * hidden_row + c, gelu(sums + bias));
                     });
            multiply(Left{scratch, hidden_row, 1, hidden}, rows, packed_.contract, channels,
                     [&](int64_t row, int64_t c, vec sums) {
                         const int64_t at = row * channels + c, count = channels - c;
                         const vec bias = load_some(weights_.contract_bias + c, count);
                         store_some(to + at, load_some(from + at, count) + (sums + bias), count);
                     });
        });
    }

  private:
    const Shape& shape_;
    const Weights& weights_;
    const Packed& packed_;
};

// y = block(x); z, if given, receives the image between the mixer and the MLP.
template <int Ratio, int Kernel>
void forward(const Shape& shape, const Weights& weights, const float* x, float* y, float* z) {
    Packed packed(shape, Pass::kForward);
    Statistics statistics(shape);
    const Mixer<Ratio, Kernel> mixer(shape, weights, packed);
    const Mlp mlp(shape, weights, packed);
    const int64_t scratch_size = std::max(mixer.scratch(shape), mlp.scratch(shape));
    Buffer scratch(shape.threads * scratch_size);
    run_team(shape.threads, [&](const Worker& worker) {
        float* own = scratch + worker.index * scratch_size;
        mixer.clear(worker);
        pack_mixer(worker, shape, weights, packed);
        pack_mlp(worker, shape, weights, packed);
        for (int64_t sample = 0; sample < shape.batch; ++sample) {
            const int64_t at = sample * shape.voxels() * shape.channels;
            float* between = (z == nullptr ? y : z) + at;
            statistics.measure(worker, x + at);
            mixer.run(worker, statistics, x + at, between, own);
            statistics.measure(worker, between);
            mlp.run(worker, statistics, between, y + at, own);
            worker.meet();
        }
    });
}

}  // namespace deconvseg::block
