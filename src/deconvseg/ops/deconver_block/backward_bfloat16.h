// Gradients of a Deconver block in bfloat16, as backward.h computes them in float32.
#pragma once

#include "mixer_backward_bfloat16.h"

namespace deconvseg::block {

// Gradients of block(x) from the gradient of its result; z is the image between the mixer and the MLP. The caller
// zeroes the gradients of the parameters: some are accumulated, others overwritten.
template <int Ratio, int Kernel>
void backward_in_bfloat16(const Shape& shape, const Weights& weights, const WeightGradients& gradients,
                          const bfloat16* x, const bfloat16* z, const bfloat16* grad, bfloat16* grad_x) {
    const PackedPairs packed(shape, Pass::kBackward);
    const PackedPairsBackward reversed(shape);
    Statistics of_x(shape), of_z(shape);
    NormGradient norm(shape);
    const PairMlpBackward mlp(shape, weights, packed, reversed, gradients);
    const PairMixerBackward<Ratio, Kernel> mixer(shape, weights, packed, reversed, gradients);
    const int64_t size = shape.voxels() * shape.channels, scratch_size = mixer.scratch(shape);
    Buffer grad_normal(size);
    BufferOf<bfloat16> grad_z(size), scratch(shape.threads * scratch_size);
    run_team(shape.threads, [&](const Worker& worker) {
        mixer.clear(worker);
        packed.fill_mixer(worker, shape, weights);
        packed.fill_mlp(worker, shape, weights);
        reversed.fill(worker, shape, weights);
        for (int64_t at = 0; at < shape.batch * size; at += size) {
            of_z.measure(worker, z + at);
            mlp.run(worker, of_z, z + at, grad + at, grad_normal);
            norm.run<bfloat16>(worker, of_z, z + at, grad_normal, grad + at, grad_z);
            of_x.measure(worker, x + at);
            mixer.run(worker, of_x, x + at, grad_z, grad_normal, scratch + worker.index * scratch_size);
            norm.run<bfloat16>(worker, of_x, x + at, grad_normal, grad_z, grad_x + at);
        }
        mixer.write(worker);
    });
}

}  // namespace deconvseg::block
