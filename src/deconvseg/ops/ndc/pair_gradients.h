// Gradients of the filters in bfloat16, as filter_gradients_row of kernels.h.
#pragma once

#include "../native/outer_bfloat16.h"
#include "pairs.h"

namespace deconvseg::ndc {

// gradient[K - 1 - k][r] += Σ_x grads[x][r] · images[kz][ky][x + kx], summed over I pairs of a gradient and an image in
// one loop. A row of `grads` has `count` pairs of voxels, [x / 2][R][kLanes][2]; the images are image-like as in pairs.h.
template <int R, int KW, int I>
void filter_gradients_pairs(float* gradient, const bfloat16* const (&grads)[I],
                            const bfloat16* const* const (&images)[I], int64_t row, const Shape& shape, int64_t count) {
    constexpr int64_t kPixel = 2 * kLanes;
    const int64_t kw = KW > 0 ? KW : shape.kw;
    constexpr int T = KW > 0 ? KW : 1;  // taps at once
    for (int64_t kz = 0; kz < shape.kd; ++kz) {
        if (images[0][kz] == nullptr) continue;
        for (int64_t ky = 0; ky < shape.kh; ++ky) {
            float* last = gradient + (((shape.kd - 1 - kz) * shape.kh + shape.kh - 1 - ky) * kw + kw - 1) * R * kLanes;
            for (int64_t k = 0; k < kw; k += T) {
                vec sum[T][R] = {};
                for (int64_t x = 0; x < count; ++x)
#pragma GCC unroll 2
                    for (int i = 0; i < I; ++i) {
                        pairs grad[R];
#pragma GCC unroll 4
                        for (int r = 0; r < R; ++r) grad[r] = load_pairs(grads[i] + (x * R + r) * kPixel);
                        const bfloat16* image = images[i][kz] + ky * row + (2 * x + k) * kPixel;
#pragma GCC unroll 8
                        for (int t = 0; t < T; ++t) {
                            const pairs value = load_pairs_once(image + t * kPixel);
#pragma GCC unroll 4
                            for (int r = 0; r < R; ++r) sum[t][r] = add_products(sum[t][r], value, grad[r]);
                        }
                    }
#pragma GCC unroll 8
                for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
                    for (int r = 0; r < R; ++r) {
                        float* to = last + (r - (k + t) * R) * kLanes;
                        store(to, load(to) + sum[t][r]);
                    }
            }
        }
    }
}

}  // namespace deconvseg::ndc
