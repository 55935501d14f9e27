// Vectors of floats with the width of the target instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace deconvseg {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t ivec __attribute__((vector_size(kLanes * sizeof(int32_t))));

#define DECONVSEG_INLINE inline __attribute__((always_inline))

DECONVSEG_INLINE vec load(const float* from) {
    vec value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

DECONVSEG_INLINE void store(float* to, vec value) { std::memcpy(to, &value, sizeof value); }

// Subtracting zero preserves -0, unlike adding it, so that the compiler can omit the operation.
DECONVSEG_INLINE vec splat(float value) { return value - vec{}; }

DECONVSEG_INLINE vec max(vec a, vec b) { return a > b ? a : b; }

// ReLU; NaN stays NaN, as in PyTorch.
DECONVSEG_INLINE vec relu(vec a) { return a < 0.0f ? vec{} : a; }

// terms[0] x^(Count - 1) + ... + terms[Count - 1].
template <int Count>
DECONVSEG_INLINE vec polynomial(const float (&terms)[Count], vec x) {
    vec sum = splat(terms[0]);
#pragma GCC unroll 16
    for (int i = 1; i < Count; ++i) sum = sum * x + terms[i];
    return sum;
}

}  // namespace deconvseg
