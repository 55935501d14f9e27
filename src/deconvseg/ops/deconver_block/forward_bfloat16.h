// The forward pass of forward.h in bfloat16: stored images, ring buffers and operands of products are bfloat16; sums,
// statistics, normalisation, the update's quotients and all that eps touches are float32.
#pragma once

#include "gelu.h"
#include "planes_bfloat16.h"

namespace deconvseg::block {

// Store from + (sums + bias) of the `count` columns from here on.
template <int Vectors>
DECONVSEG_INLINE void store_residual(bfloat16* to, const bfloat16* from, const float* bias, const vec (&sums)[Vectors],
                                     int64_t count) {
    vec values[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) {
        const int64_t rest = count - v * kLanes;
        values[v] = load_some(from + v * kLanes, rest) + (sums[v] + load_some(bias + v * kLanes, rest));
    }
    if (count >= Vectors * kLanes) return store_all(to, values);
    for (int v = 0; v < Vectors; ++v) store_some(to + v * kLanes, values[v], count - v * kLanes);
}

// The mixer and its residual connection: z = x + W S' + b.
template <int Ratio, int Kernel>
class PairMixer : public PairPlanes<Ratio, Kernel> {
    using Base = PairPlanes<Ratio, Kernel>;
    using Base::explained_, Base::image_, Base::kernel_, Base::packed_, Base::ready, Base::shape_, Base::source_,
        Base::step_, Base::weights_;

  public:
    PairMixer(const Shape& shape, const Weights& weights, const PackedPairs& packed) : Base(shape, weights, packed, 3) {}

    void run(const Worker& worker, const Statistics& statistics, const bfloat16* x, bfloat16* z,
             bfloat16* scratch) const {
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
            for (int64_t line = first; line < last; ++line)
                ndc::update_row<Ratio, Kernel>(this->line_of(source_, line, block), this->around(image_, line, block),
                                               this->around(explained_, line, block), image_.row(),
                                               this->adjoint(block), kernel_, shape_.width, shape_.eps);
    }

    void finish(int64_t first, int64_t last, const bfloat16* x, bfloat16* z) const {
        const int64_t channels = shape_.channels, width = shape_.width;
        multiply_lines(
            first, last, width, packed_.project_out, channels,
            [&](int64_t line) { return source_.left(this->plane(line), this->y(line)); },
            [&](int64_t line, int64_t) {
                return [=](int64_t at, int64_t c, const auto& sums) {
                    const int64_t to = (line * width + at) * channels + c;
                    store_residual(z + to, x + to, weights_.project_out_bias + c, sums, channels - c);
                };
            });
    }
};

// The MLP and its residual connection, from z to y (which may be z), a few voxels at a time.
class PairMlp {
  public:
    PairMlp(const Shape& shape, const Weights& weights, const PackedPairs& packed)
        : shape_(shape), weights_(weights), packed_(packed) {}

    static constexpr int64_t kVoxels = 128;  // per task
    static int64_t scratch(const Shape& shape) { return kVoxels * (shape.inner_row() + shape.hidden_row()); }

    void run(const Worker& worker, const Statistics& statistics, const bfloat16* z, bfloat16* y,
             bfloat16* scratch) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden, voxels = shape_.voxels();
        const int64_t inner = shape_.inner(), inner_hidden = shape_.inner_hidden();
        const int64_t row_size = shape_.inner_row(), hidden_row = shape_.hidden_row();
        bfloat16* normal = scratch + kVoxels * hidden_row;
        worker.share((voxels + kVoxels - 1) / kVoxels, [&](int64_t i) {
            const bfloat16* from = z + i * kVoxels * channels;
            bfloat16* to = y + i * kVoxels * channels;
            const int64_t rows = std::min(kVoxels, voxels - i * kVoxels);
            statistics.normalise(from, rows, normal, row_size);
            multiply(PairLeft{normal, row_size, 1, inner}, rows, packed_.expand, hidden,
                     [&](int64_t row, int64_t c, const auto& sums) {
                         store_gelu(scratch + row * hidden_row + c, weights_.expand_bias + c, sums, hidden - c);
                     });
            multiply(PairLeft{scratch, hidden_row, 1, inner_hidden}, rows, packed_.contract, channels,
                     [&](int64_t row, int64_t c, const auto& sums) {
                         const int64_t at = row * channels + c;
                         store_residual(to + at, from + at, weights_.contract_bias + c, sums, channels - c);
                     });
        });
    }

  private:
    template <int Vectors>
    DECONVSEG_INLINE static void store_gelu(bfloat16* to, const float* bias, const vec (&sums)[Vectors], int64_t count) {
        vec values[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v)
            values[v] = gelu_for_bfloat16(sums[v] + load_some(bias + v * kLanes, count - v * kLanes));
        store_all(to, values);
    }

    const Shape& shape_;
    const Weights& weights_;
    const PackedPairs& packed_;
};

// y = block(x); z, if given, receives the image between the mixer and the MLP.
template <int Ratio, int Kernel>
void forward_in_bfloat16(const Shape& shape, const Weights& weights, const bfloat16* x, bfloat16* y, bfloat16* z) {
    const PackedPairs packed(shape, Pass::kForward);
    Statistics statistics(shape);
    const PairMixer<Ratio, Kernel> mixer(shape, weights, packed);
    const PairMlp mlp(shape, weights, packed);
    const int64_t scratch_size = std::max(mixer.scratch(shape), mlp.scratch(shape));
    BufferOf<bfloat16> scratch(shape.threads * scratch_size);
    run_team(shape.threads, [&](const Worker& worker) {
        bfloat16* own = scratch + worker.index * scratch_size;
        mixer.clear(worker);
        packed.fill_mixer(worker, shape, weights);
        packed.fill_mlp(worker, shape, weights);
        for (int64_t sample = 0; sample < shape.batch; ++sample) {
            const int64_t at = sample * shape.voxels() * shape.channels;
            bfloat16* between = (z == nullptr ? y : z) + at;
            statistics.measure(worker, x + at);
            mixer.run(worker, statistics, x + at, between, own);
            statistics.measure(worker, between);
            mlp.run(worker, statistics, between, y + at, own);
            worker.meet();
        }
    });
}

}  // namespace deconvseg::block
