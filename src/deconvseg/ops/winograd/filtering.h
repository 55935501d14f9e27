// Winograd's minimal filtering F(2, 3): two results of a filter of three need four products instead of six.
// With V = Bᵀ d from the image, U = G g from the filter, and M = V U, the results are y = Aᵀ M:
//     Bᵀ = 1 0 -1 0,  0 1 1 0,  0 -1 1 0,  0 1 0 -1      G = 1 0 0,  ½ ½ ½,  ½ -½ ½,  0 0 1      Aᵀ = 1 1 1 0,  0 1 -1 -1.
#pragma once

#include "simd.h"

namespace deconvseg {

constexpr double kG[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
constexpr double kOne[1][3] = {{1, 0, 0}};  // instead of G along an axis without filtering

DECONVSEG_INLINE void transform_image(vec* a, int64_t step) {
    const vec first = a[0] - a[2 * step], sum = a[step] + a[2 * step];
    const vec difference = a[2 * step] - a[step], last = a[step] - a[3 * step];
    a[0] = first, a[step] = sum, a[2 * step] = difference, a[3 * step] = last;
}

DECONVSEG_INLINE void transform_result(vec* a, int64_t step) {
    const vec sum = a[step] + a[2 * step], difference = a[step] - a[2 * step];
    a[0] += sum, a[step] = difference - a[3 * step];
}

// One element of U: the filter w (taps along three axes) weighted by a row of G, or of kOne, for each axis.
inline double transformed(const float* w, const int64_t* taps, const double* const* g) {
    double sum = 0;
    for (int64_t z = 0; z < taps[0]; ++z)
        for (int64_t y = 0; y < taps[1]; ++y)
            for (int64_t x = 0; x < taps[2]; ++x, ++w) sum += g[0][z] * g[1][y] * g[2][x] * *w;
    return sum;
}

}  // namespace deconvseg
