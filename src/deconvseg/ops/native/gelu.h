// The Gaussian error linear unit and its derivative, to float32 rounding.
#pragma once

#include "exp.h"

namespace deconvseg {

// (1 - Phi(x)) exp(x^2 / 2) / t for t = 1 / (1 + kGeluScale x) and 0 <= x <= 13.5, beyond which the tail is below the smallest
// float: fitted by benchmarks/kernel_constants.py, relative error 1.4e-8.
constexpr float kGeluScale = 0.21f;
constexpr float kGeluTail[] = {-0.07203384f, 0.28545272f,  -0.33418834f, 0.35403216f, -0.0972447f,
                               0.12635472f,  0.068790145f, 0.085129395f, 0.083707705f};

// Cumulative normal distribution of x, and exp(-x^2 / 2).
struct Normal {
    vec cumulative, bell;
};

DECONVSEG_INLINE Normal normal(vec x) {
    const vec t = 1.0f / (1.0f + kGeluScale * (x < 0.0f ? -x : x));
    const vec bell = exp(-0.5f * x * x);
    const vec tail = polynomial(kGeluTail, t) * t * bell;
    return {x < 0.0f ? tail : 1.0f - tail, bell};
}

DECONVSEG_INLINE vec gelu(vec x) { return x * normal(x).cumulative; }

// d gelu(x) / dx = Phi(x) + x phi(x).
DECONVSEG_INLINE vec gelu_slope(vec x) {
    const Normal at = normal(x);
    return at.cumulative + x * at.bell * 0.398942280f;
}

// x, or the nearest of -end and end; NaN stays NaN.
DECONVSEG_INLINE vec clamped(vec x, float end) {
#if defined(__AVX512F__)
    // Compilers make a comparison and a blend of each conditional expression. GCC warns about the unmasked forms.
    constexpr __mmask16 kAll = 0xffff;
    return (vec)_mm512_maskz_max_ps(kAll, (__m512)splat(-end), _mm512_maskz_min_ps(kAll, (__m512)splat(end), (__m512)x));
#else
    const vec high = x > end ? splat(end) : x;
    return high < -end ? splat(-end) : high;
#endif
}

// (Phi(x) - 1/2) / x in x^2 for |x| <= kGeluEnd, with the value 1/2 / kGeluEnd at the end: fitted by
// benchmarks/kernel_constants.py, error of x Phi(x) 4.5e-5.
constexpr float kGeluEnd = 4.25f;
constexpr float kGeluMiddle[] = {6.7489146e-11f, -6.3224097e-09f, 2.604772e-07f,
                                -6.2906083e-06f, 0.0001008074f, -0.0011570086f,
                                 0.009994482f, -0.06666988f, 0.39911255f};

// gelu to the rounding of bfloat16: an absolute error of 6e-5, and 0 or x beyond kGeluEnd. It needs no exponential and no
// division.
DECONVSEG_INLINE vec gelu_for_bfloat16(vec x) {
    const vec inside = clamped(x, kGeluEnd);
    return x * (0.5f + inside * polynomial(kGeluMiddle, inside * inside));
}

// (d gelu(x) / dx - 1/2) / x in x^2 for |x| <= kSlopeEnd, with the value 1/2 / kSlopeEnd at the end: error of the slope
// 6.8e-5, and 2e-4 with the roundings of float32.
constexpr float kSlopeEnd = 4.5f;
constexpr float kGeluSlope[] = {-2.4450273e-11f, 2.7539497e-09f, -1.3659255e-07f, 3.948913e-06f, -7.438411e-05f,
                                0.0009675752f, -0.008954709f, 0.05900975f, -0.26548532f, 0.7978897f};

// gelu_slope to the rounding of bfloat16, and 0 or 1 beyond kSlopeEnd.
DECONVSEG_INLINE vec gelu_slope_for_bfloat16(vec x) {
    const vec inside = clamped(x, kSlopeEnd);
    return 0.5f + inside * polynomial(kGeluSlope, inside * inside);
}

}  // namespace deconvseg
