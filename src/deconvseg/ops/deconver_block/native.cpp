// Whole Deconver blocks on a CPU: C functions, called from native.py.

#include "backward.h"
#include "backward_steps.h"
#include "interface.h"

using namespace deconvseg;

// x, y and z (may be null) are (batch, depth, height, width, channels); sizes and weights are in the order of
// block::Shape and block::Weights; eps has the constants of the update and of the normalisation. Returns 0, or 1 if
// memory ran out.
extern "C" int deconvseg_deconver_block(const float* x, float* y, float* z, const int64_t* sizes,
                                        const float* const* weights, const float* eps) {
    block::Shape shape = block::shape_of(sizes, eps);
    block::fold_lanes<float>(shape);
    const block::Weights parameters = block::weights_of(weights);
    const size_t bytes = shape.batch * shape.voxels() * shape.channels * sizeof(float);
    prefer_large_pages(y, bytes);
    if (z != nullptr) prefer_large_pages(z, bytes);
    return guarded([&] {
        ndc::with_sizes({shape.kernel_d, shape.kernel_h, shape.kernel_w, shape.lane_ratio()}, [&](auto ratio, auto kernel) {
            if constexpr (decltype(ratio)::value > 0)
                block::forward<float, decltype(ratio)::value, decltype(kernel)::value>(shape, parameters, x, y, z);
        });
    });
}

// Gradients from `grad`, the gradient of y: of x, and of the weights (in their order, zeroed by the caller); x and z as
// above.
extern "C" int deconvseg_deconver_block_backward(const float* grad, const float* x, const float* z, const int64_t* sizes,
                                                 const float* const* weights, const float* eps, float* grad_x,
                                                 float* const* gradients) {
    block::Shape shape = block::shape_of(sizes, eps);
    block::fold_lanes<float>(shape);
    const block::Weights parameters = block::weights_of(weights);
    const block::WeightGradients results = block::gradients_of(gradients);
    prefer_large_pages(grad_x, shape.batch * shape.voxels() * shape.channels * sizeof(float));
    return guarded([&] {
        ndc::with_sizes({shape.kernel_d, shape.kernel_h, shape.kernel_w, shape.lane_ratio()}, [&](auto ratio, auto kernel) {
            if constexpr (decltype(ratio)::value > 0)
                block::backward<float, decltype(ratio)::value, decltype(kernel)::value>(shape, parameters, results, x, z,
                                                                                       grad, grad_x);
        });
    });
}
