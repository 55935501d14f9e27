// The gradients of the update with one group per image channel, plane by plane as in update.h.
//
// With N = X ∗ V⁻, D = (S ∗ V) ∗ V⁻, Q = (N + ε) / (D + ε) and the gradient G of S ⊙ Q:
//   dN = G ⊙ S / (D + ε),  dD = −dN ⊙ Q,  dR = dD ∗ V (of R = S ∗ V),  dX = dN ∗ V,  dS = G ⊙ Q + dR ∗ V⁻,
// and dV is the sum of filter_gradient_row over (dN, X), (dD, R) and (S, dR).
#pragma once

#include <cstdint>

#include "blocks.h"

namespace deconvseg::ndc {

struct GradientTensors {
    Tensor<const float> grad, x, source;
    const float* filters;
    Tensor<float> dx, dsource;  // without data if not needed
};

// Gradients in one box. A plane of dS needs dR with a margin of one half kernel, dN and dD of two, X and R of three, S
// of four.
template <int R, int KW>
class Gradients {
  public:
    static constexpr int64_t kRings = 7;

    Gradients(const Problem& problem, const Box& box)
        : problem_(problem),
          half_(problem.shape.kd / 2),
          source_(problem, box, 4, 4 * half_ + 1, problem.shape.sources),
          image_(problem, box, 3, 2 * half_ + 1, 1),
          explained_(problem, box, 3, 2 * half_ + 1, 1),
          numerator_(problem, box, 2, 2 * half_ + 1, problem.shape.sources),
          denominator_(problem, box, 2, 2 * half_ + 1, problem.shape.sources),
          result_(problem, box, 2, 2 * half_ + 1, problem.shape.sources),
          dexplained_(problem, box, 1, 2 * half_ + 1, 1),
          filter_floats_(problem.shape.filter_vectors() * kLanes),
          line_floats_((box.width() + 4 * (problem.shape.kw / 2)) * problem.shape.sources * kLanes) {}

    int64_t floats() const {
        int64_t sum = 2 * filter_floats_ + line_floats_;
        for (const Ring* ring : {&source_, &image_, &explained_, &numerator_, &denominator_, &result_, &dexplained_})
            sum += ring->floats();
        return sum;
    }

    // `dfilters` receives this box's share of the filters' gradient, in the packed order; may be nullptr.
    void run(const GradientTensors& tensors, const Task& task, float eps, float* dfilters, float* memory) {
        tensors_ = &tensors, task_ = &task, eps_ = eps;
        filters_ = memory;
        dfilters_ = dfilters == nullptr ? nullptr : memory + filter_floats_;
        line_ = memory + 2 * filter_floats_;
        memory = line_ + line_floats_;
        for (Ring* ring : {&source_, &image_, &explained_, &numerator_, &denominator_, &result_, &dexplained_})
            ring->take(memory);
        pack_filters(filters_, tensors.filters, problem_, task.block);
        if (dfilters != nullptr) {
            std::fill(dfilters, dfilters + filter_floats_, 0.0f);
            std::fill(dfilters_, dfilters_ + filter_floats_, 0.0f);
        }

        const Box &box = task.box, one = box.grown(1, problem_), two = box.grown(2, problem_),
                  three = box.grown(3, problem_), four = box.grown(4, problem_);
        int64_t sources = four.z, explained = three.z, ratios = two.z, dexplained = one.z;
        for (int64_t z = box.z; z < box.z_end; ++z) {
            // Each plane is computed as soon as its inputs are available, because the rings hold few planes.
            advance(dexplained, z + half_, problem_.depth, [&](int64_t d) {
                advance(ratios, d + half_, problem_.depth, [&](int64_t q) {
                    advance(explained, q + half_, problem_.depth, [&](int64_t e) {
                        advance(sources, e + half_, problem_.depth, [&](int64_t plane) {
                            load_plane(source_, tensors.source, problem_, task, problem_.shape.sources, plane, four);
                        });
                        load_plane(image_, tensors.x, problem_, task, 1, e, three);
                        reconstruct(source_, explained_, e, three);
                    });
                    make_ratios(q, two);
                });
                reconstruct(denominator_, dexplained_, d, one);
                if (tensors.dx.data != nullptr && box.z <= d && d < box.z_end) finish_image(d);
            });
            finish_source(z);
            if (dfilters != nullptr) finish_filters(dfilters);
        }
    }

  private:
    void reconstruct(const Ring& from, const Ring& to, int64_t z, const Box& region) {
        reconstruct_rows<R, KW>(to.at(z, region.y, region.x), to.row(), false, from.taps(z, region.y, region.x),
                                from.row(), filters_, problem_.shape, region.width(), region.height());
    }

    // Compute dN, dD and the direct part of dS in a plane and, inside the box, their terms of the filters' gradient.
    void make_ratios(int64_t z, const Box& region) {
        const int64_t sources = problem_.shape.sources;
        const Box& box = task_->box;
        const Row row{tensors_->grad.strides[1], tensors_->grad.strides[4], problem_.lanes(task_->block), sources,
                      region.width()};
        for (int64_t y = region.y; y < region.y_end; ++y) {
            load_row(line_, tensors_->grad.at(task_->sample, task_->block * kLanes * sources, z, y, region.x), row);
            const float* source = source_.at(z, y, region.x);
            float* numerator = numerator_.at(z, y, region.x);
            float* denominator = denominator_.at(z, y, region.x);
            float* result = result_.at(z, y, region.x);
            correlate<R, KW, 2>({image_.taps(z, y, region.x), explained_.taps(z, y, region.x)}, image_.row(), filters_,
                                problem_.shape, region.width(), [&](int64_t at, const vec(&sum)[2]) {
                                    const vec grad = load(line_ + at), quotient = ratio(sum[0], sum[1], eps_);
                                    const vec dn = divide(grad * load(source + at), sum[1], eps_);
                                    store(numerator + at, dn);
                                    store(denominator + at, -dn * quotient);
                                    store(result + at, grad * quotient);
                                });
            if (dfilters_ == nullptr || z < box.z || z >= box.z_end || y < box.y || y >= box.y_end) continue;
            filter_gradients_row<R, KW, 2>(dfilters_, {numerator_.at(z, y, box.x), denominator_.at(z, y, box.x)},
                                           {image_.taps(z, y, box.x), explained_.taps(z, y, box.x)}, image_.row(),
                                           problem_.shape, box.width());
        }
    }

    void finish_image(int64_t z) {
        const Box& box = task_->box;
        const Row row{tensors_->dx.strides[1], tensors_->dx.strides[4], problem_.lanes(task_->block), 1, box.width()};
        for (int64_t y = box.y; y < box.y_end; ++y) {
            reconstruct_row<R, KW>(line_, false, numerator_.taps(z, y, box.x), numerator_.row(), filters_,
                                   problem_.shape, box.width());
            store_row(tensors_->dx.at(task_->sample, task_->block * kLanes, z, y, box.x), line_, row);
        }
    }

    void finish_source(int64_t z) {
        const int64_t sources = problem_.shape.sources;
        const Box& box = task_->box;
        const Row row{tensors_->dsource.strides[1], tensors_->dsource.strides[4], problem_.lanes(task_->block), sources,
                      box.width()};
        for (int64_t y = box.y; y < box.y_end; ++y) {
            if (dfilters_ != nullptr)
                filter_gradient_row<R, KW>(dfilters_, source_.at(z, y, box.x), dexplained_.taps(z, y, box.x),
                                           dexplained_.row(), problem_.shape, box.width());
            if (tensors_->dsource.data == nullptr) continue;
            float* result = result_.at(z, y, box.x);
            correlate_row<R, KW>(result, true, dexplained_.taps(z, y, box.x), dexplained_.row(), filters_,
                                 problem_.shape, box.width());
            store_row(tensors_->dsource.at(task_->sample, task_->block * kLanes * sources, z, y, box.x), result, row);
        }
    }

    // Summing plane by plane keeps rounding errors small.
    void finish_filters(float* dfilters) {
        for (int64_t i = 0; i < filter_floats_; i += kLanes) {
            store(dfilters + i, load(dfilters + i) + load(dfilters_ + i));
            store(dfilters_ + i, vec{});
        }
    }

    const Problem& problem_;
    int64_t half_;
    Ring source_, image_, explained_, numerator_, denominator_, result_, dexplained_;
    int64_t filter_floats_, line_floats_;
    const GradientTensors* tensors_ = nullptr;
    const Task* task_ = nullptr;
    float eps_ = 0;
    float *dfilters_ = nullptr, *filters_ = nullptr, *line_ = nullptr;
};

}  // namespace deconvseg::ndc
