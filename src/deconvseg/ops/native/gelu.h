// The Gaussian error linear unit and its derivative, to float32 rounding.
#pragma once

#include "simd.h"

namespace deconvseg {

// exp(a) for a <= 0; 0 below -87, where a float ends.
DECONVSEG_INLINE vec exp_nonpositive(vec a) {
    const vec scaled = max(a, splat(-87.0f)) * 1.44269504f;
    const ivec whole = __builtin_convertvector(scaled - 0.5f, ivec);
    const vec part = __builtin_convertvector(whole, vec);
    // 2^whole * e^rest, |rest| <= ln(2) / 2; ln(2) in two pieces keeps the rest exact.
    const vec rest = (max(a, splat(-87.0f)) - part * 0.693359375f) + part * 2.12194440e-4f;
    vec power = splat(1.0f / 720);
    power = power * rest + 1.0f / 120;
    power = power * rest + 1.0f / 24;
    power = power * rest + 1.0f / 6;
    power = power * rest + 0.5f;
    power = power * rest + 1.0f;
    power = power * rest + 1.0f;
    const ivec bits = (whole + 127) << 23;
    vec scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return a < -87.0f ? vec{} : power * scale;
}

// Normal distribution function of x, and exp(-x^2 / 2). The tail is exp(-x^2 / 2) times a polynomial in 1 / (1 + p |x|),
// a fit of relative error 1.5e-8 on [0, 13.5], beyond which the tail is below the smallest float.
struct Normal {
    vec cumulative, bell;
};

DECONVSEG_INLINE Normal normal(vec x) {
    const vec size = x < 0.0f ? -x : x;
    const vec t = 1.0f / (1.0f + 0.21f * size);
    vec tail = splat(-0.0721857100725174f);
    tail = tail * t + 0.2861682176589966f;
    tail = tail * t + -0.33562514185905457f;
    tail = tail * t + 0.3556364178657532f;
    tail = tail * t + -0.09833261370658875f;
    tail = tail * t + 0.12681308388710022f;
    tail = tail * t + 0.06867305189371109f;
    tail = tail * t + 0.0851459726691246f;
    tail = tail * t + 0.08370670676231384f;
    const vec bell = exp_nonpositive(-0.5f * x * x);
    tail = tail * t * bell;
    return {x < 0.0f ? tail : 1.0f - tail, bell};
}

DECONVSEG_INLINE vec gelu(vec x) { return x * normal(x).cumulative; }

// d gelu(x) / dx = Phi(x) + x phi(x).
DECONVSEG_INLINE vec gelu_slope(vec x) {
    const Normal at = normal(x);
    return at.cumulative + x * at.bell * 0.398942280f;
}

}  // namespace deconvseg
