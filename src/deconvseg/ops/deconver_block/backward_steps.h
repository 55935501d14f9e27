// The steps of the backward pass of the mixer in float32.
#pragma once

#include "mixer_backward.h"
#include "planes.h"

namespace deconvseg::block {

template <int Ratio, int Kernel>
class BackwardSteps<float, Ratio, Kernel> : public Planes<float, Ratio, Kernel> {
    using Base = Planes<float, Ratio, Kernel>;
    static constexpr int64_t kPer = Ratio * kLanes;
    // Voxels times channels of a step: the rings of wide blocks, 24 numbers for each, would leave the second-level
    // cache.
    static constexpr int64_t kVoxels = 65536;

  public:
    BackwardSteps(const Shape& shape, const Weights& weights, const Packed<float>& packed,
                  const PackedBackward<float>& reversed, const WeightGradients& gradients)
        : Base(shape, weights, packed, kLag, planes_at_once(shape, kVoxels / shape.inner())),
          sums_(shape),
          reversed_(reversed),
          gradients_(gradients),
          updated_(shape, slots(), Ratio),
          grad_source_(shape, slots(), Ratio),
          grad_numerator_(shape, slots(), Ratio),
          grad_denominator_(shape, slots(), Ratio),
          grad_image_(shape, slots(), 1),
          grad_explained_(shape, slots(), 1),
          normal_(most() * shape.inner_row()) {}

    void clear(const Worker& worker) const {
        Base::clear(worker);
        for (const Ring* ring : {&updated_, &grad_source_, &grad_numerator_, &grad_denominator_, &grad_image_,
                                 &grad_explained_})
            ring->clear(worker);
        sums_.clear(worker);
    }

  protected:
    using Base::explained_, Base::image_, Base::kernel_, Base::shape_, Base::source_, Base::step_;

    const MixerSums sums_;

    // Gradient of the updated source (from z = x + W S' + b), and of N, D and S in S' = S (N + eps) / (D + eps).
    void update(const MixerPass<float>& pass, int64_t first, int64_t last, int64_t) const {
        const int64_t channels = shape_.channels, width = shape_.width;
        const float* grad = pass.grad;
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
    void sum_update(const MixerPass<float>& pass, int64_t first, int64_t last) const {
        const int64_t channels = shape_.channels, width = shape_.width, height = shape_.height;
        const Worker& worker = pass.worker;
        const float* grad = pass.grad;
        add_outer(
            worker, sums_.project_out, channels, shape_.inner() * Ratio, first * height, last * height, width,
            [&](int64_t line, int64_t row) { return grad + line * width * channels + row; }, channels,
            [&](int64_t line, int64_t column) { return this->at(updated_, line, column); }, kPer);
        add_columns(
            worker, gradients_.project_out_bias, channels, first * height, last * height, width,
            [&](int64_t line, int64_t column) { return grad + line * width * channels + column; }, channels);
        sums_.share_filters(worker, first, last, [&](int64_t line, int64_t block, float* sum) {
            ndc::filter_gradients_row<Ratio, Kernel, 2>(
                sum, {this->line_of(grad_numerator_, line, block), this->line_of(grad_denominator_, line, block)},
                {this->around(image_, line, block), this->around(explained_, line, block)}, image_.row(), kernel_,
                width);
        });
    }

    // The gradients of S * V through D, and of X through N.
    void give_back(int64_t first, int64_t last) const {
        this->reconstruct(first, last, grad_denominator_, grad_explained_);
        this->reconstruct(first, last, grad_numerator_, grad_image_);
    }

    // From the gradient of S * V to those of S and, through both rectifiers and both products, of norm(x).
    void finish_planes(const MixerPass<float>& pass, int64_t first, int64_t last) const {
        const int64_t channels = shape_.channels, sources = shape_.inner() * Ratio, row = shape_.inner_row();
        const int64_t width = shape_.width, height = shape_.height;
        const Worker& worker = pass.worker;
        sums_.share_filters(worker, first, last, [&](int64_t line, int64_t block, float* sum) {
            ndc::filter_gradients_row<Ratio, Kernel, 1>(sum, {this->line_of(source_, line, block)},
                                                       {this->around(grad_explained_, line, block)}, image_.row(),
                                                       kernel_, width);
        });
        const int64_t from = first * height;
        share_lines(worker, shape_, first, last, [&](int64_t a, int64_t b) {
            finish(a, b, pass.grad_normal);
            pass.statistics.normalise(pass.x + a * width * channels, (b - a) * width, normal_ + (a - from) * width * row,
                                 row);
        });
        worker.meet();
        const auto source = [&](int64_t line, int64_t row) { return this->at(grad_source_, line, row); };
        const auto image = [&](int64_t line, int64_t column) { return this->at(image_, line, column); };
        const auto grad = [&](int64_t line, int64_t row) { return this->at(grad_image_, line, row); };
        const auto normal = [&](int64_t line, int64_t column) {
            return normal_ + (line - from) * width * row + column;
        };
        add_outer(worker, sums_.source, sources, channels, from, last * height, width, source, kPer, image, kLanes);
        add_columns(worker, sums_.source_bias, sources, from, last * height, width, source, kPer);
        add_outer(worker, gradients_.project_in, channels, channels, from, last * height, width, grad, kLanes, normal,
                  row);
        worker.meet();
    }

  private:
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

    int64_t slots() const { return step_ + kLag * shape_.margin(); }
    // Largest number of planes in one step: the last step also has those that waited for neighbours.
    int64_t most() const { return std::min(shape_.depth, slots()) * shape_.height * shape_.width; }

    const PackedBackward<float>& reversed_;
    const WeightGradients& gradients_;
    Ring updated_, grad_source_, grad_numerator_, grad_denominator_, grad_image_, grad_explained_;
    Buffer normal_;
};

}  // namespace deconvseg::block
