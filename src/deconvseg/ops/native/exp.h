// The exponential, the logistic function and softplus, lane by lane.
#pragma once

#include "simd.h"

namespace deconvseg {

// Fitted by benchmarks/kernel_constants.py: e^r for |r| <= ln(2) / 2, relative error 3.1e-9, and (artanh(u) / u - 1) / u^2 in
// u^2 for 0 <= u <= 1/3, relative error of artanh 4.5e-9.
constexpr float kExp[] = {0.0013814613f, 0.00836871f, 0.04166839f, 0.16666521f, 0.49999994f, 1.0f, 1.0f};
constexpr float kArtanh[] = {0.14005993f, 0.14000903f, 0.20010763f, 0.3333321f};

// exp of several vectors, interleaved to hide the latency of the dependent steps. The error is at most 1 ulp between
// -87.3 and 88; the result is 0 below -87.7, infinite above 88.1, and NaN for NaN.
template <int Count>
DECONVSEG_INLINE void exp(vec (&a)[Count]) {
    vec scale[Count], power[Count];
#define DECONVSEG_EACH \
    _Pragma("GCC unroll 16") for (int i = 0; i < Count; ++i)
    DECONVSEG_EACH a[i] = a[i] < -88.0f ? splat(-88.0f) : a[i];
    DECONVSEG_EACH a[i] = a[i] > 88.4f ? splat(88.4f) : a[i];
    // Adding 1.5 * 2^23 rounds to an integer in the lowest bits; adding 127 makes it a biased exponent.
    constexpr float shift = 12582912.0f + 127.0f;
    DECONVSEG_EACH scale[i] = a[i] * 1.44269504f + shift;
    // 2^whole * e^rest, |rest| <= ln(2) / 2; ln(2) is split into two parts to keep the rest exact.
    DECONVSEG_EACH power[i] = scale[i] - shift;
    DECONVSEG_EACH a[i] = a[i] - power[i] * 0.693359375f;
    DECONVSEG_EACH a[i] = a[i] + power[i] * 2.12194440e-4f;
    DECONVSEG_EACH power[i] = splat(kExp[0]);
#pragma GCC unroll 8
    for (int term = 1; term < 7; ++term)
        DECONVSEG_EACH power[i] = power[i] * a[i] + kExp[term];
    DECONVSEG_EACH {
        ivec bits;
        std::memcpy(&bits, &scale[i], sizeof bits);
        bits <<= 23;
        std::memcpy(&scale[i], &bits, sizeof bits);
        a[i] = power[i] * scale[i];
    }
#undef DECONVSEG_EACH
}

DECONVSEG_INLINE vec exp(vec a) {
    vec one[1] = {a};
    exp(one);
    return one[0];
}

// exp(-|a|).
DECONVSEG_INLINE vec exp_of_distance(vec a) { return exp(a < 0.0f ? a : -a); }

// value = 1 / (1 + exp(-a)), rest = 1 - value.
struct Logistic {
    vec value, rest;
};

DECONVSEG_INLINE Logistic logistic(vec a) {
    const vec power = exp_of_distance(a);
    const vec larger = 1.0f / (1.0f + power), smaller = power * larger;
    return {a < 0.0f ? smaller : larger, a < 0.0f ? larger : smaller};
}

// log(1 + exp(a)), accurate for tiny results too: log(1 + p) = 2 artanh(p / (2 + p)).
DECONVSEG_INLINE vec softplus(vec a) {
    const vec power = exp_of_distance(a);
    const vec root = power / (2.0f + power), square = root * root;
    const vec series = polynomial(kArtanh, square) * square * root + root;
    return (a < 0.0f ? vec{} : a) + 2.0f * series;
}

}  // namespace deconvseg
