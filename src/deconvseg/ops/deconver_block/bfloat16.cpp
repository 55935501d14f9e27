// Whole Deconver blocks in bfloat16 on a CPU with AVX512-BF16: C functions, called from native.py.

#include "../native/bfloat16.h"
#include "../native/outer_bfloat16.h"
#include "backward.h"
#include "backward_steps_bfloat16.h"
#include "interface.h"

using namespace deconvseg;

// As deconvseg_deconver_block in native.cpp, for images in bfloat16 and an even ratio; the weights are float32.
extern "C" int deconvseg_deconver_block_bfloat16(const bfloat16* x, bfloat16* y, bfloat16* z, const int64_t* sizes,
                                                 const float* const* weights, const float* eps) {
    block::Shape shape = block::shape_of(sizes, eps);
    block::fold_lanes<bfloat16>(shape);
    const block::Weights parameters = block::weights_of(weights);
    const size_t bytes = shape.batch * shape.voxels() * shape.channels * sizeof(bfloat16);
    prefer_large_pages(y, bytes);
    if (z != nullptr) prefer_large_pages(z, bytes);
    return guarded([&] {
        ndc::with_sizes({shape.kernel_d, shape.kernel_h, shape.kernel_w, shape.lane_ratio()}, [&](auto ratio, auto kernel) {
            if constexpr (decltype(ratio)::value % 2 == 0 && decltype(ratio)::value > 0)
                block::forward<bfloat16, decltype(ratio)::value, decltype(kernel)::value>(shape, parameters, x, y, z);
        });
    });
}

// Gradients from `grad`, the gradient of y: of x in bfloat16, and of the weights (in their order, zeroed by the caller).
extern "C" int deconvseg_deconver_block_backward_bfloat16(const bfloat16* grad, const bfloat16* x, const bfloat16* z,
                                                          const int64_t* sizes, const float* const* weights,
                                                          const float* eps, bfloat16* grad_x, float* const* gradients) {
    block::Shape shape = block::shape_of(sizes, eps);
    block::fold_lanes<bfloat16>(shape);
    const block::Weights parameters = block::weights_of(weights);
    const block::WeightGradients results = block::gradients_of(gradients);
    prefer_large_pages(grad_x, shape.batch * shape.voxels() * shape.channels * sizeof(bfloat16));
    return guarded([&] {
        ndc::with_sizes({shape.kernel_d, shape.kernel_h, shape.kernel_w, shape.lane_ratio()}, [&](auto ratio, auto kernel) {
            if constexpr (decltype(ratio)::value % 2 == 0 && decltype(ratio)::value > 0)
                block::backward<bfloat16, decltype(ratio)::value, decltype(kernel)::value>(shape, parameters, results, x,
                                                                                             z, grad, grad_x);
        });
    });
}
