// The backward pass of the mixer, down to the gradient of its normalised input.
#pragma once

#include "mixer_sums.h"
#include "rings.h"

namespace deconvseg::block {

// Margins between the newest plane and the oldest one that is still needed.
constexpr int64_t kLag = 5;

// What the pass over a sample reads, the gradient of norm(x) that it writes, and the worker and its memory.
template <class T>
struct MixerPass {
    const Worker& worker;
    const Statistics& statistics;
    const T *x, *grad;
    float* grad_normal;
    T* scratch;
};

// What is computed in each of the steps: backward_steps.h and backward_steps_bfloat16.h.
template <class T, int Ratio, int Kernel>
class BackwardSteps;

// Results of the forward pass are recomputed, a few planes at a time. A plane passes five steps, each a margin behind
// the previous one: X and S; S * V; the update and the gradients of N = X * V-, of D = (S * V) * V- and the direct part of
// that of S; the gradients of S * V (through D) and of X (through N); the full gradient of S, and from it that of the
// input.
template <class T, int Ratio, int Kernel>
class MixerBackward : public BackwardSteps<T, Ratio, Kernel> {
    using Base = BackwardSteps<T, Ratio, Kernel>;
    using Base::explained_, Base::ready, Base::shape_, Base::source_, Base::step_;

  public:
    using Base::Base;

    // Compute the gradient of norm(x) from x and the gradient of z.
    void run(const MixerPass<T>& pass) const {
        int64_t made = 0, explained = 0, updated = 0, returned = 0, done = 0;
        const Worker& worker = pass.worker;
        const int64_t depth = shape_.depth;
        while (done < depth) {
            const int64_t made_next = std::min(depth, made + step_);
            share_lines(worker, shape_, made, made_next,
                        [&](int64_t a, int64_t b) { this->make(a, b, pass.statistics, pass.x, pass.scratch); });
            worker.meet();
            const int64_t explained_next = ready(made_next);
            share_lines(worker, shape_, explained, explained_next,
                        [&](int64_t a, int64_t b) { this->reconstruct(a, b, source_, explained_); });
            worker.meet();
            const int64_t updated_next = ready(explained_next), begin = updated * shape_.height;
            share_lines(worker, shape_, updated, updated_next,
                        [&](int64_t a, int64_t b) { this->update(pass, a, b, begin); });
            worker.meet();
            this->sum_update(pass, updated, updated_next);
            const int64_t returned_next = ready(updated_next);
            share_lines(worker, shape_, returned, returned_next, [&](int64_t a, int64_t b) { this->give_back(a, b); });
            worker.meet();
            const int64_t done_next = ready(returned_next);
            this->finish_planes(pass, done, done_next);
            made = made_next, explained = explained_next, updated = updated_next, returned = returned_next;
            done = done_next;
        }
    }

    // Write the gradients of the parameters whose rows or columns are summed in blocked order.
    void write(const Worker& worker, const WeightGradients& gradients) const {
        this->sums_.write(worker, this->weights_, gradients);
    }
};

}  // namespace deconvseg::block
