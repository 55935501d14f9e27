// Gradients of a Deconver block. Results of the forward pass are recomputed, a few planes at a time.
#pragma once

#include "gradients.h"
#include "mlp_backward.h"

namespace deconvseg::block {

// Backward pass of the mixer, down to the gradient of its normalised input. A plane passes five steps, each a margin
// behind the previous one: X and S; S * V; the update and the gradients of N = X * V-, of D = (S * V) * V- and the
// direct part of that of S; the gradients of S * V (through D) and of X (through N); the full gradient of S, and from
// it that of the input.
template <int Ratio, int Kernel>
class MixerBackward : public Planes<Ratio, Kernel> {
    using Base = Planes<Ratio, Kernel>;
    using Base::explained_, Base::image_, Base::kernel_, Base::packed_, Base::ready, Base::shape_, Base::source_,
        Base::step_, Base::weights_;
    static constexpr int64_t kLag = 5, kPer = Ratio * kLanes;
    // Voxels times channels of a step: the rings of wide blocks, 24 numbers for each, would leave the second-level cache.
    static constexpr int64_t kVoxels = 65536;

  public:
    MixerBackward(const Shape& shape, const Weights& weights, const Packed& packed, const PackedBackward& reversed,
                  const Gradients& gradients)
        : Base(shape, weights, packed, kLag, planes_at_once(shape, kVoxels / shape.inner())),
          reversed_(reversed),
          gradients_(gradients),
          updated_(shape, slots(), Ratio),
          grad_source_(shape, slots(), Ratio),
          grad_numerator_(shape, slots(), Ratio),
          grad_denominator_(shape, slots(), Ratio),
          grad_image_(shape, slots(), 1),
          grad_explained_(shape, slots(), 1),
          normal_(most() * shape.inner_row()),
          sum_source_(shape.inner() * Ratio * shape.channels),
          sum_project_out_(shape.channels * shape.inner() * Ratio),
          sum_source_bias_(shape.inner() * Ratio),
          sum_filters_(parts(shape) * shape.blocks() * shape.taps() * kPer) {}

    void clear(const Worker& worker) const {
        Base::clear(worker);
        for (const Ring* ring : {&updated_, &grad_source_, &grad_numerator_, &grad_denominator_, &grad_image_,
                                 &grad_explained_})
            ring->clear(worker);
        const int64_t sources = shape_.inner() * Ratio;
        worker.share(sources, [&](int64_t row) {
            std::fill_n(sum_source_ + row * shape_.channels, shape_.channels, 0.0f);
            std::fill_n(sum_project_out_ + row * shape_.channels, shape_.channels, 0.0f);
        });
        if (worker.index != 0) return;
        std::fill_n(static_cast<float*>(sum_source_bias_), sources, 0.0f);
        std::fill_n(static_cast<float*>(sum_filters_), parts(shape_) * shape_.blocks() * shape_.taps() * kPer, 0.0f);
    }

    // Compute the gradient of norm(x) from x and the gradient of z.
    void run(const Worker& worker, const Statistics& statistics, const float* x, const float* grad, float* grad_normal,
             float* scratch) const {
        int64_t made = 0, explained = 0, updated = 0, returned = 0, done = 0;
        const int64_t depth = shape_.depth;
        while (done < depth) {
            const int64_t made_next = std::min(depth, made + step_);
            share_lines(worker, shape_, made, made_next,
                        [&](int64_t a, int64_t b) { this->make(a, b, statistics, x, scratch); });
            worker.meet();
            const int64_t explained_next = ready(made_next);
            share_lines(worker, shape_, explained, explained_next,
                        [&](int64_t a, int64_t b) { this->reconstruct(a, b, source_, explained_); });
            worker.meet();
            const int64_t updated_next = ready(explained_next);
            share_lines(worker, shape_, updated, updated_next, [&](int64_t a, int64_t b) { update(a, b, grad); });
            worker.meet();
            sum_update(worker, updated, updated_next, grad);
            const int64_t returned_next = ready(updated_next);
            share_lines(worker, shape_, returned, returned_next, [&](int64_t a, int64_t b) {
                this->reconstruct(a, b, grad_denominator_, grad_explained_);
                this->reconstruct(a, b, grad_numerator_, grad_image_);
            });
            worker.meet();
            const int64_t done_next = ready(returned_next);
            finish_planes(worker, statistics, done, done_next, x, grad_normal);
            made = made_next, explained = explained_next, updated = updated_next, returned = returned_next;
            done = done_next;
        }
    }

    // Write the gradients of the parameters whose rows or columns are summed in blocked order.
    void write(const Worker& worker) const {
        const int64_t channels = shape_.channels, sources = channels * shape_.ratio, taps = shape_.taps();
        const int64_t inner_sources = shape_.inner() * Ratio;
        worker.share(shape_.blocks(), [&](int64_t block) {
            const int64_t first = block * kPer;
            int64_t channel[kPer];
            for (int64_t j = 0; j < kPer; ++j) channel[j] = source_channel(shape_, first + j);
            // Row by row: down the columns, every element would be in another cache line.
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t j = 0; j < kPer; ++j)
                    if (channel[j] >= 0)
                        gradients_.project_out[c * sources + channel[j]] = sum_project_out_[c * inner_sources + first + j];
            for (int64_t j = 0; j < kPer; ++j) {
                const int64_t e = channel[j], column = first + j;
                if (e < 0) continue;
                gradients_.source_bias[e] = sum_source_bias_[column];
                std::copy_n(sum_source_ + column * channels, channels, gradients_.source + e * channels);
                for (int64_t tap = 0; tap < taps; ++tap) {
                    float total = 0;
                    for (int64_t part = 0; part < parts(shape_); ++part) total += sums(part, block)[tap * kPer + j];
                    gradients_.filters[e * taps + tap] = weights_.filters[e * taps + tap] <= 0 ? 0.0f : total;
                }
            }
        });
    }

  private:
    // Parts into which lines are split for the filters' sums: enough for all threads, independent of their number. Planes
    // of few lines, as those of 2D images, which have one, are dealt to the parts in turn.
    static constexpr int64_t kParts = 8;
    static bool by_planes(const Shape& shape) { return shape.height < kParts; }
    static int64_t parts(const Shape& shape) { return by_planes(shape) ? std::min(shape.depth, kParts) : kParts; }
    int64_t slots() const { return step_ + kLag * shape_.margin(); }
    // Largest number of planes in one step: the last step also has those that waited for neighbours.
    int64_t most() const { return std::min(shape_.depth, slots()) * shape_.height * shape_.width; }
    float* sums(int64_t part, int64_t block) const {
        return sum_filters_ + (part * shape_.blocks() + block) * shape_.taps() * kPer;
    }

    // Gradient of the updated source (from z = x + W S' + b), and of N, D and S in S' = S (N + eps) / (D + eps).
    void update(int64_t first, int64_t last, const float* grad) const {
        const int64_t channels = shape_.channels, width = shape_.width;
        multiply_lines(
            first, last, width, reversed_.project_out, shape_.inner() * Ratio,
            [&](int64_t line) { return Left{grad + line * width * channels, channels, 1, channels}; },
            [&](int64_t line, int64_t column) {
                return [to = this->panel(grad_source_, line, column)](int64_t x, int64_t c, vec sums) {
                    store(to.at(x, c), sums);
                };
            });
        const float eps = shape_.eps;
        for (int64_t block = 0; block < shape_.blocks(); ++block)
            for (int64_t line = first; line < last; ++line) {
                const float* source = this->line_of(source_, line, block);
                float *updated = this->line_of(updated_, line, block), *back = this->line_of(grad_source_, line, block);
                float *numerator = this->line_of(grad_numerator_, line, block),
                      *denominator = this->line_of(grad_denominator_, line, block);
                ndc::correlate<Ratio, Kernel, 2>(
                    {this->around(image_, line, block), this->around(explained_, line, block)}, image_.row(),
                    this->filters(block), kernel_, width, [&](int64_t at, const vec(&sum)[2]) {
                        const vec value = load(source + at), incoming = load(back + at);
                        const vec quotient = ndc::ratio(sum[0], sum[1], eps);
                        const vec share = ndc::divide(incoming * value, sum[1], eps);
                        store(updated + at, value * quotient);
                        store(back + at, incoming * quotient);
                        store(numerator + at, share);
                        store(denominator + at, -share * quotient);
                    });
            }
    }

    // Contribution of the updated planes to the gradients of the filters and of the output projection.
    void sum_update(const Worker& worker, int64_t first, int64_t last, const float* grad) const {
        const int64_t channels = shape_.channels, width = shape_.width, height = shape_.height;
        add_outer(
            worker, sum_project_out_, channels, shape_.inner() * Ratio, first * height, last * height, width,
            [&](int64_t line, int64_t row) { return grad + line * width * channels + row; }, channels,
            [&](int64_t line, int64_t column) { return this->at(updated_, line, column); }, kPer);
        add_columns(
            worker, gradients_.project_out_bias, channels, first * height, last * height, width,
            [&](int64_t line, int64_t column) { return grad + line * width * channels + column; }, channels);
        share_filters(worker, first, last, [&](int64_t line, int64_t block, float* sum) {
            ndc::filter_gradients_row<Ratio, Kernel, 2>(
                sum, {this->line_of(grad_numerator_, line, block), this->line_of(grad_denominator_, line, block)},
                {this->around(image_, line, block), this->around(explained_, line, block)}, image_.row(), kernel_,
                width);
        });
    }

    template <class Add>
    void share_filters(const Worker& worker, int64_t first, int64_t last, Add add) const {
        const int64_t height = shape_.height, count = parts(shape_);
        worker.share(count * shape_.blocks(), [&](int64_t task) {
            const int64_t part = task % count, block = task / count;
            const bool by_planes = this->by_planes(shape_);
            for (int64_t plane = first; plane < last; ++plane) {
                if (by_planes && plane % count != part) continue;
                const int64_t from = by_planes ? 0 : height * part / count;
                const int64_t to = by_planes ? height : height * (part + 1) / count;
                for (int64_t y = from; y < to; ++y) add(plane * height + y, block, sums(part, block));
            }
        });
    }

    // From the gradient of S * V to those of S and, through both rectifiers and both products, of norm(x).
    void finish_planes(const Worker& worker, const Statistics& statistics, int64_t first, int64_t last, const float* x,
                       float* grad_normal) const {
        const int64_t channels = shape_.channels, sources = shape_.inner() * Ratio, row = shape_.inner_row();
        const int64_t width = shape_.width, height = shape_.height;
        share_filters(worker, first, last, [&](int64_t line, int64_t block, float* sum) {
            ndc::filter_gradients_row<Ratio, Kernel, 1>(sum, {this->line_of(source_, line, block)},
                                                       {this->around(grad_explained_, line, block)}, image_.row(),
                                                       kernel_, width);
        });
        const int64_t from = first * height;
        share_lines(worker, shape_, first, last, [&](int64_t a, int64_t b) {
            finish(a, b, grad_normal);
            statistics.normalise(x + a * width * channels, (b - a) * width, normal_ + (a - from) * width * row,
                                 row);
        });
        worker.meet();
        const auto source = [&](int64_t line, int64_t row) { return this->at(grad_source_, line, row); };
        const auto image = [&](int64_t line, int64_t column) { return this->at(image_, line, column); };
        const auto grad = [&](int64_t line, int64_t row) { return this->at(grad_image_, line, row); };
        const auto normal = [&](int64_t line, int64_t column) {
            return normal_ + (line - from) * width * row + column;
        };
        add_outer(worker, sum_source_, sources, channels, from, last * height, width, source, kPer, image, kLanes);
        add_columns(worker, sum_source_bias_, sources, from, last * height, width, source, kPer);
        add_outer(worker, gradients_.project_in, channels, channels, from, last * height, width, grad, kLanes, normal,
                  row);
        worker.meet();
    }

    void finish(int64_t first, int64_t last, float* grad_normal) const {
        const int64_t channels = shape_.channels, inner = shape_.inner(), width = shape_.width;
        for (int64_t block = 0; block < shape_.blocks(); ++block)
            for (int64_t line = first; line < last; ++line) {
                const float* source = this->line_of(source_, line, block);
                float* back = this->line_of(grad_source_, line, block);
                ndc::correlate<Ratio, Kernel, 1>({this->around(grad_explained_, line, block)}, image_.row(),
                                                 this->filters(block), kernel_, width,
                                                 [&](int64_t at, const vec(&sum)[1]) {
                                                     const vec total = load(back + at) + sum[0];
                                                     store(back + at, load(source + at) > 0.0f ? total : vec{});
                                                 });
            }
        multiply_lines(
            first, last, width, reversed_.source, inner,
            [&](int64_t line) { return grad_source_.left(this->plane(line), this->y(line)); },
            [&](int64_t line, int64_t column) {
                return [image = this->panel(image_, line, column), grad = this->panel(grad_image_, line, column)](
                           int64_t x, int64_t c, vec sums) {
                    float* to = grad.at(x, c);
                    const vec total = load(to) + sums;
                    store(to, load(image.at(x, c)) > 0.0f ? total : vec{});
                };
            });
        multiply_lines(
            first, last, width, reversed_.project_in, channels,
            [&](int64_t line) { return grad_image_.left(this->plane(line), this->y(line)); },
            [&](int64_t line, int64_t) {
                return [=](int64_t x, int64_t c, vec sums) {
                    store_some(grad_normal + (line * width + x) * channels + c, sums, channels - c);
                };
            });
    }

    const PackedBackward& reversed_;
    const Gradients& gradients_;
    Ring updated_, grad_source_, grad_numerator_, grad_denominator_, grad_image_, grad_explained_;
    Buffer normal_, sum_source_, sum_project_out_, sum_source_bias_, sum_filters_;
};

// Gradients of block(x) from the gradient of its result; z is the image between the mixer and the MLP. The caller
// zeroes the gradients: some are accumulated, others overwritten.
template <int Ratio, int Kernel>
void backward(const Shape& shape, const Weights& weights, const Gradients& gradients, const float* x, const float* z,
              const float* grad) {
    Packed packed(shape, Pass::kBackward);
    PackedBackward reversed(shape);
    Statistics of_x(shape), of_z(shape);
    NormGradient norm(shape);
    const MlpBackward mlp(shape, weights, packed, reversed, gradients);
    const MixerBackward<Ratio, Kernel> mixer(shape, weights, packed, reversed, gradients);
    const int64_t size = shape.voxels() * shape.channels, scratch_size = mixer.scratch(shape);
    Buffer grad_z(size), scratch(shape.threads * scratch_size);
    run_team(shape.threads, [&](const Worker& worker) {
        mixer.clear(worker);
        pack_mixer(worker, shape, weights, packed);
        pack_mlp(worker, shape, weights, packed);
        reversed.fill(worker, shape, weights);
        for (int64_t at = 0; at < shape.batch * size; at += size) {
            float* grad_x = gradients.x + at;
            of_z.measure(worker, z + at);
            mlp.run(worker, of_z, z + at, grad + at, grad_z);
            norm.run<float>(worker, of_z, z + at, grad_z, grad + at, grad_z);
            of_x.measure(worker, x + at);
            mixer.run(worker, of_x, x + at, grad_z, grad_x, scratch + worker.index * scratch_size);
            norm.run<float>(worker, of_x, x + at, grad_x, grad_z, grad_x);
        }
        mixer.write(worker);
    });
}

}  // namespace deconvseg::block
