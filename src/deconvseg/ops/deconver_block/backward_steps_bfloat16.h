// The steps of the backward pass of the mixer in bfloat16. What is summed, subtracted or divided stays float32: the
// direct part of the gradient of S, which the part through S * V nearly cancels, the quotients, the gradients of
// normalised images and those of the parameters.
#pragma once

#include "../ndc/pair_gradients.h"
#include "mixer_backward.h"
#include "mlp_backward.h"
#include "planes_bfloat16.h"

namespace deconvseg::block {

template <int Ratio, int Kernel>
class BackwardSteps<bfloat16, Ratio, Kernel> : public Planes<bfloat16, Ratio, Kernel> {
    using Base = Planes<bfloat16, Ratio, Kernel>;
    static constexpr int64_t kPer = Ratio * kLanes;

  public:
    BackwardSteps(const Shape& shape, const Weights& weights, const Packed<bfloat16>& packed,
                  const PackedBackward<bfloat16>& reversed, const WeightGradients& gradients)
        : Base(shape, weights, packed, kLag, planes_at_once(shape)),
          sums_(shape),
          reversed_(reversed),
          gradients_(gradients),
          direct_(shape, slots(), Ratio),
          grad_image_(shape, slots(), 1),
          grad_numerator_(shape, slots(), Ratio),
          grad_denominator_(shape, slots(), Ratio),
          grad_explained_(shape, slots(), 2),
          of_sources_(most() * shape.inner() * Ratio),
          left_(most() * shape.inner()),
          right_(most() * shape.inner()),
          own_(shape.threads * own()) {}

    void clear(const Worker& worker) const {
        Base::clear(worker);
        for (const Ring* ring : {&direct_, &grad_image_}) ring->clear(worker);
        for (const RingOf<bfloat16>* ring : {&grad_numerator_, &grad_denominator_, &grad_explained_})
            ring->clear(worker);
        sums_.clear(worker);
    }

  protected:
    using Base::explained_, Base::image_, Base::kernel_, Base::shape_, Base::source_, Base::step_;

    const MixerSums sums_;

    // Gradient of the updated source (from z = x + W S' + b), and of N, D and S in S' = S (N + eps) / (D + eps).
    void update(const MixerPass<bfloat16>& pass, int64_t first, int64_t last, int64_t begin) const {
        const int64_t inner = shape_.inner(), width = shape_.width, channels = shape_.channels;
        bfloat16* mine = own_of(pass);
        const LeftOf<bfloat16> rows =
            left_of_image(pass.grad + first * width * channels, (last - first) * width, channels, rows_of(mine));
        multiply_lines(
            first, last, width, reversed_.project_out, inner * Ratio,
            [&](int64_t line) { return LeftOf<bfloat16>{rows.data + (line - first) * width * inner, inner, 1, inner}; },
            [&](int64_t line, int64_t column) {
                return [to = this->panel(direct_, line, column)](int64_t x, int64_t c, const auto& sums) {
                    store_all(to.at(x, c), sums);
                };
            });
        for (int64_t line = first; line < last; ++line)
            pair_voxels(left_ + (line - begin) * paired() * inner, rows.data + (line - first) * width * inner, width,
                        inner);
        for (int64_t block = 0; block < shape_.blocks(); ++block)
            for (int64_t line = first; line < last; ++line) {
                update_gradients(line, block, mine);
                bfloat16* to = of_sources_ + (line - begin) * paired() * inner * Ratio + block * 2 * kPer;
                pair_sources(to, inner * Ratio, mine, kPer, width, kPer);
            }
    }

    // Contribution of the updated planes to the gradients of the filters and of the output projection.
    void sum_update(const MixerPass<bfloat16>& pass, int64_t first, int64_t last) const {
        const Worker& worker = pass.worker;
        bfloat16* mine = own_of(pass);
        const int64_t channels = shape_.channels, inner = shape_.inner(), width = shape_.width;
        const int64_t lines = (last - first) * shape_.height, sources = inner * Ratio;
        const auto grad = in_pairs(left_, inner);
        add_outer(worker, sums_.project_out, channels, sources, 0, lines, paired() / 2, grad, 2 * inner,
                  in_pairs(of_sources_, sources), 2 * sources);
        add_columns(worker, gradients_.project_out_bias, channels, 0, lines, paired() / 2, grad, 2 * inner);
        sums_.share_filters(worker, first, last, [&](int64_t line, int64_t block, float* sum) {
            bfloat16* other = mine + paired() * kPer;
            pair_sources(mine, kPer, this->line_of(grad_numerator_, line, block), kPer, width, kPer);
            pair_sources(other, kPer, this->line_of(grad_denominator_, line, block), kPer, width, kPer);
            ndc::filter_gradients_pairs<Ratio, Kernel, 2>(
                sum, {mine, other}, {this->around(image_, line, block), this->around(explained_, line, block)},
                image_.row(), kernel_, paired() / 2);
        });
    }

    // The gradients of S * V through D, and of X through N.
    void give_back(int64_t first, int64_t last) const {
        this->reconstruct(first, last, grad_denominator_, grad_explained_);
        for (int64_t line = first; line < last; ++line)
            for (int64_t block = 0; block < shape_.blocks(); ++block) {
                float* to = this->line_of(grad_image_, line, block);
                ndc::reconstruct_pairs<Ratio, Kernel>(
                    this->around(grad_numerator_, line, block), grad_numerator_.row(), this->filters(block), kernel_,
                    shape_.width, 1,
                    [&](int64_t x, int64_t, auto& sums) {
                        this->fold_all(sums);
                        store_all(to + x * kLanes, sums);
                    });
            }
    }

    // From the gradient of S * V to those of S and, through both rectifiers and both products, of norm(x).
    void finish_planes(const MixerPass<bfloat16>& pass, int64_t first, int64_t last) const {
        const Worker& worker = pass.worker;
        bfloat16* mine = own_of(pass);
        const int64_t channels = shape_.channels, inner = shape_.inner(), width = shape_.width, height = shape_.height;
        sums_.share_filters(worker, first, last, [&](int64_t line, int64_t block, float* sum) {
            pair_sources(mine, kPer, this->line_of(source_, line, block), kPer, width, kPer);
            ndc::filter_gradients_pairs<Ratio, Kernel, 1>(sum, {mine}, {this->around(grad_explained_, line, block)},
                                                         image_.row(), kernel_, paired() / 2);
        });
        const int64_t from = first * height, lines = (last - first) * height, sources = inner * Ratio;
        share_lines(worker, shape_, first, last,
                    [&](int64_t a, int64_t b) { finish(pass, a, b, from, rows_of(mine)); });
        worker.meet();
        const auto source = in_pairs(of_sources_, sources), grad = in_pairs(left_, inner);
        const auto image = [&](int64_t line, int64_t column) {
            return this->line_of(image_, from + line, column / kLanes) + column % kLanes * 2;
        };
        add_outer(worker, sums_.source, sources, channels, 0, lines, paired() / 2, source, 2 * sources, image,
                  4 * kLanes);
        add_columns(worker, sums_.source_bias, sources, 0, lines, paired() / 2, source, 2 * sources);
        add_outer(worker, gradients_.project_in, channels, channels, 0, lines, paired() / 2, grad, 2 * inner,
                  in_pairs(right_, inner), 2 * inner);
        worker.meet();
    }

  private:
    int64_t slots() const { return step_ + kLag * shape_.margin(); }
    // Voxels in pairs of a line, and of the planes of one step at most.
    int64_t paired() const { return 2 * voxel_pairs(shape_.width); }
    int64_t most() const { return std::min(shape_.depth, slots()) * shape_.height * paired(); }
    // Numbers of a worker: pairs of voxels of two lines of a block, and a task's rows of sources and of channels.
    int64_t own() const {
        return 2 * paired() * kPer + lines_per_task(shape_) * shape_.width * shape_.inner() * (Ratio + 2);
    }
    bfloat16* own_of(const MixerPass<bfloat16>& pass) const { return own_ + pass.worker.index * own(); }
    bfloat16* rows_of(bfloat16* mine) const { return mine + 2 * paired() * kPer; }

    // `updated` receives S' of the line in pairs of sources.
    void update_gradients(int64_t line, int64_t block, bfloat16* updated) const {
        const float eps = shape_.eps;
        const bfloat16* source = this->line_of(source_, line, block);
        float* direct = this->line_of(direct_, line, block);
        bfloat16 *numerator = this->line_of(grad_numerator_, line, block),
                 *denominator = this->line_of(grad_denominator_, line, block);
        ndc::correlate_pairs<Ratio, Kernel, 2>(
            {this->around(image_, line, block), this->around(explained_, line, block)}, image_.row(),
            this->adjoint(block), kernel_, shape_.width, [&](int64_t x, const vec(&sum)[Ratio][2]) {
#pragma GCC unroll 2
                for (int p = 0; p < Ratio / 2; ++p) {
                    const int64_t at = x * kPer + p * 2 * kLanes;
                    const pairs old = load_pairs(source + at);
                    vec made[2], of_numerator[2], of_denominator[2];
#pragma GCC unroll 2
                    for (int i = 0; i < 2; ++i) {
                        const auto& both = sum[2 * p + i];
                        const vec value = i == 0 ? first_of(old) : second_of(old), incoming = load(direct + at + i * kLanes);
                        const vec quotient = ndc::ratio(both[0], both[1], eps);
                        made[i] = value * quotient;
                        of_numerator[i] = ndc::divide(incoming * value, both[1], eps);
                        of_denominator[i] = -of_numerator[i] * quotient;
                        store(direct + at + i * kLanes, incoming * quotient);
                    }
                    store_pairs(updated + at, pair_up(made[0], made[1]));
                    store_pairs(numerator + at, pair_up(of_numerator[0], of_numerator[1]));
                    store_pairs(denominator + at, pair_up(of_denominator[0], of_denominator[1]));
                }
            });
    }

    // Address of a line's pairs of voxels from a column on, in a buffer of the planes of one step.
    auto in_pairs(const bfloat16* buffer, int64_t columns) const {
        return [=](int64_t line, int64_t column) { return buffer + line * paired() * columns + 2 * column; };
    }

    void finish(const MixerPass<bfloat16>& pass, int64_t first, int64_t last, int64_t begin, bfloat16* total) const {
        const int64_t channels = shape_.channels, inner = shape_.inner(), width = shape_.width, sources = inner * Ratio;
        bfloat16 *before = total + (last - first) * width * sources, *normal = before + (last - first) * width * inner;
        for (int64_t block = 0; block < shape_.blocks(); ++block)
            for (int64_t line = first; line < last; ++line)
                finish_sources(line, block, total + (line - first) * width * sources + block * kPer);
        multiply_lines(
            first, last, width, reversed_.source, inner,
            [&](int64_t line) { return LeftOf<bfloat16>{total + (line - first) * width * sources, sources, 1, sources}; },
            [&](int64_t line, int64_t column) {
                const PanelOf<float> grad = this->panel(grad_image_, line, column);
                const bfloat16 *image = this->line_of(image_, line, column / kLanes),
                               *next = this->line_of(image_, line, column / kLanes + 1);
                return [=, rows = before + (line - first) * width * inner](int64_t at, int64_t c, const auto& sums) {
                    finish_image(rows + at * inner + c, grad, at, c, {image, next}, sums);
                };
            });
        multiply(LeftOf<bfloat16>{before, inner, 1, inner}, (last - first) * width, reversed_.project_in, channels,
                 [&](int64_t row, int64_t c, const auto& sums) {
                     float* to = pass.grad_normal + (first * width + row) * channels + c;
                     store_each(to, sums, channels - c, [](vec sum, int64_t) { return sum; });
                 });
        pass.statistics.normalise(pass.x + first * width * channels, (last - first) * width, normal);
        for (int64_t line = first; line < last; ++line) {
            const int64_t row = (line - first) * width, to = (line - begin) * paired();
            pair_sources(of_sources_ + to * sources, sources, total + row * sources, sources, width, sources);
            pair_voxels(left_ + to * inner, before + row * inner, width, inner);
            pair_voxels(right_ + to * inner, normal + row * inner, width, inner);
        }
    }

    // The whole gradient of S before its rectifier, `step` numbers from one voxel to the next.
    void finish_sources(int64_t line, int64_t block, bfloat16* total) const {
        const bfloat16* source = this->line_of(source_, line, block);
        const float* direct = this->line_of(direct_, line, block);
        const int64_t step = shape_.inner() * Ratio;
        ndc::correlate_pairs<Ratio, Kernel, 1>(
            {this->around(grad_explained_, line, block)}, image_.row(), this->adjoint(block), kernel_, shape_.width,
            [&](int64_t x, const vec(&sum)[Ratio][1]) {
#pragma GCC unroll 2
                for (int p = 0; p < Ratio / 2; ++p) {
                    const int64_t at = x * kPer + p * 2 * kLanes;
                    const pairs value = load_pairs(source + at);
                    const vec first = load(direct + at) + sum[2 * p][0],
                              second = load(direct + at + kLanes) + sum[2 * p + 1][0];
                    store_pairs(total + x * step + p * 2 * kLanes,
                                pair_up(first_of(value) > 0.0f ? first : vec{}, second_of(value) > 0.0f ? second : vec{}));
                }
            });
    }

    template <int Vectors>
    static void finish_image(bfloat16* to, const PanelOf<float>& grad, int64_t x, int64_t c,
                             const bfloat16* const (&lines)[2], const vec (&sums)[Vectors]) {
        vec values[Vectors];
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) {
            const vec total = load(grad.at(x, c + v * kLanes)) + sums[v];
            const vec image = first_of(load_pairs(lines[v] + x * 2 * kLanes));
            values[v] = image > 0.0f ? total : vec{};
        }
        store_all(to, values);
    }

    const PackedBackward<bfloat16>& reversed_;
    const WeightGradients& gradients_;
    Ring direct_, grad_image_;
    RingOf<bfloat16> grad_numerator_, grad_denominator_, grad_explained_;
    // Operands of sums over voxels, of the planes of one step: of_sources_ has S' and later the gradient of S, left_ the
    // gradient of z and later that of W_in norm(x), right_ norm(x).
    BufferOf<bfloat16> of_sources_, left_, right_, own_;
};

}  // namespace deconvseg::block
