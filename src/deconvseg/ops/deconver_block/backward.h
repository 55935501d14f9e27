// Gradients of a Deconver block.
#pragma once

#include "gradients.h"
#include "mixer_backward.h"
#include "mlp_backward.h"

namespace deconvseg::block {

// Gradients of block(x) from the gradient of its result; z is the image between the mixer and the MLP. The caller
// zeroes the gradients of the parameters: some are accumulated, others overwritten.
template <class T, int Ratio, int Kernel>
void backward(const Shape& shape, const Weights& weights, const WeightGradients& gradients, const T* x, const T* z,
              const T* grad, T* grad_x) {
    const Packed<T> packed(shape, Pass::kBackward);
    const PackedBackward<T> reversed(shape);
    Statistics of_x(shape), of_z(shape);
    NormGradient norm(shape);
    const MlpBackward<T> mlp(shape, weights, packed, reversed, gradients);
    const MixerBackward<T, Ratio, Kernel> mixer(shape, weights, packed, reversed, gradients);
    const int64_t size = shape.voxels() * shape.channels, scratch_size = mixer.scratch(shape);
    BufferOf<T> grad_z(size), scratch(shape.threads * scratch_size);
    // The gradient of a normalised image is float32: where the result is float32 too, it is computed in place.
    constexpr bool kInPlace = std::is_same_v<T, float>;
    Buffer grad_normal(kInPlace ? 0 : size);
    const auto normal_of = [&](T* result) {
        if constexpr (kInPlace)
            return result;
        else
            return static_cast<float*>(grad_normal);
    };
    run_team(shape.threads, [&](const Worker& worker) {
        mixer.clear(worker);
        packed.fill(worker, shape, weights);
        reversed.fill(worker, shape, weights);
        for (int64_t at = 0; at < shape.batch * size; at += size) {
            float *of_mlp = normal_of(grad_z), *of_mixer = normal_of(grad_x + at);
            of_z.measure(worker, z + at);
            mlp.run(worker, of_z, z + at, grad + at, of_mlp);
            norm.run<T>(worker, of_z, z + at, of_mlp, grad + at, grad_z);
            of_x.measure(worker, x + at);
            mixer.run({worker, of_x, x + at, grad_z, of_mixer, scratch + worker.index * scratch_size});
            norm.run<T>(worker, of_x, x + at, of_mixer, grad_z, grad_x + at);
        }
        mixer.write(worker, gradients);
    });
}

}  // namespace deconvseg::block
