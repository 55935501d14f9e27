// A Deconver block (Deconver, Eq. 4 to 7) in two passes; planes of the mixer are kept in ring buffers that stay in
// cache. In bfloat16, images, ring buffers and operands of products are bfloat16; sums, statistics, normalisation, the
// update's quotients and all that eps touches are float32.
#pragma once

#include "gelu.h"
#include "rings.h"

namespace deconvseg::block {

// GELU to the rounding of T.
template <class T>
DECONVSEG_INLINE vec gelu_for(vec x) {
    if constexpr (Operands<T>::kDepth == 1)
        return gelu(x);
    else
        return gelu_for_bfloat16(x);
}

// Store from + (sums + bias) of the `count` columns from here on.
template <class T, class Sums>
DECONVSEG_INLINE void store_residual(T* to, const T* from, const float* bias, const Sums& sums, int64_t count) {
    store_each(to, sums, count, [&](vec sum, int64_t c) {
        return load_some(from + c, count - c) + (sum + load_some(bias + c, count - c));
    });
}

// The mixer and its residual connection, z = x + W S' + b, from x to z (both of one sample with the channels
// innermost).
template <class T, int Ratio, int Kernel>
class Mixer : public Planes<T, Ratio, Kernel> {
    using Base = Planes<T, Ratio, Kernel>;
    using Base::explained_, Base::packed_, Base::ready, Base::shape_, Base::source_, Base::step_, Base::weights_;

  public:
    Mixer(const Shape& shape, const Weights& weights, const Packed<T>& packed)
        : Base(shape, weights, packed, 3, planes_at_once(shape)) {}

    void run(const Worker& worker, const Statistics& statistics, const T* x, T* z, T* scratch) const {
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
                for (int64_t block = 0; block < shape_.blocks(); ++block)
                    for (int64_t line = a; line < b; ++line) this->update_line(line, block);
                finish(a, b, x, z);
            });
            worker.meet();
            made = made_next, explained = explained_next, done = done_next;
        }
    }

  private:
    void finish(int64_t first, int64_t last, const T* x, T* z) const {
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
template <class T>
class Mlp {
  public:
    Mlp(const Shape& shape, const Weights& weights, const Packed<T>& packed)
        : shape_(shape), weights_(weights), packed_(packed) {}

    static constexpr int64_t kVoxels = 128;  // per task
    static int64_t scratch(const Shape& shape) { return kVoxels * (shape.inner_row() + shape.hidden_row()); }

    void run(const Worker& worker, const Statistics& statistics, const T* z, T* y, T* scratch) const {
        const int64_t channels = shape_.channels, hidden = shape_.hidden, voxels = shape_.voxels();
        const int64_t normal_row = shape_.inner_row(), hidden_row = shape_.hidden_row();
        T* normal = scratch + kVoxels * hidden_row;
        worker.share((voxels + kVoxels - 1) / kVoxels, [&](int64_t i) {
            const T* from = z + i * kVoxels * channels;
            T* to = y + i * kVoxels * channels;
            const int64_t rows = std::min(kVoxels, voxels - i * kVoxels);
            statistics.normalise(from, rows, normal, normal_row);
            multiply(LeftOf<T>{normal, normal_row, 1, depth_of<T>(channels)}, rows, packed_.expand, hidden,
                     [&](int64_t row, int64_t c, const auto& sums) {
                         const float* bias = weights_.expand_bias + c;
                         store_each(scratch + row * hidden_row + c, sums, [&](vec sum, int64_t at) {
                             return gelu_for<T>(sum + load_some(bias + at, hidden - c - at));
                         });
                     });
            multiply(LeftOf<T>{scratch, hidden_row, 1, depth_of<T>(hidden)}, rows, packed_.contract, channels,
                     [&](int64_t row, int64_t c, const auto& sums) {
                         const int64_t at = row * channels + c;
                         store_residual(to + at, from + at, weights_.contract_bias + c, sums, channels - c);
                     });
        });
    }

  private:
    const Shape& shape_;
    const Weights& weights_;
    const Packed<T>& packed_;
};

// y = block(x); z, if given, receives the image between the mixer and the MLP.
template <class T, int Ratio, int Kernel>
void forward(const Shape& shape, const Weights& weights, const T* x, T* y, T* z) {
    const Packed<T> packed(shape, Pass::kForward);
    Statistics statistics(shape);
    const Mixer<T, Ratio, Kernel> mixer(shape, weights, packed);
    const Mlp<T> mlp(shape, weights, packed);
    const int64_t scratch_size = std::max(mixer.scratch(shape), mlp.scratch(shape));
    BufferOf<T> scratch(shape.threads * scratch_size);
    run_team(shape.threads, [&](const Worker& worker) {
        T* own = scratch + worker.index * scratch_size;
        mixer.clear(worker);
        packed.fill(worker, shape, weights);
        for (int64_t sample = 0; sample < shape.batch; ++sample) {
            const int64_t at = sample * shape.voxels() * shape.channels;
            T* between = (z == nullptr ? y : z) + at;
            statistics.measure(worker, x + at);
            mixer.run(worker, statistics, x + at, between, own);
            statistics.measure(worker, between);
            mlp.run(worker, statistics, between, y + at, own);
            worker.meet();
        }
    });
}

}  // namespace deconvseg::block
