// Vectors of floats with the width of the target instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

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

inline int64_t padded(int64_t channels) { return (channels + kLanes - 1) / kLanes * kLanes; }

// Load the first `count` lanes; the others are 0. Nothing outside of them is read.
DECONVSEG_INLINE vec load_some(const float* from, int64_t count) {
    if (count >= kLanes) return load(from);
    if (count <= 0) return vec{};
#if defined(__AVX512F__)
    return reinterpret_cast<vec>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from));
#elif defined(__AVX2__)
    const ivec lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return reinterpret_cast<vec>(_mm256_maskload_ps(from, reinterpret_cast<__m256i>(lane < static_cast<int32_t>(count))));
#else
    vec value{};
    std::memcpy(&value, from, count * sizeof(float));
    return value;
#endif
}

// Store the first `count` lanes.
DECONVSEG_INLINE void store_some(float* to, vec value, int64_t count) {
    if (count >= kLanes) return store(to, value);
    if (count <= 0) return;
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), reinterpret_cast<__m512>(value));
#elif defined(__AVX2__)
    const ivec lane = {0, 1, 2, 3, 4, 5, 6, 7};
    const auto mask = reinterpret_cast<__m256i>(lane < static_cast<int32_t>(count));
    _mm256_maskstore_ps(to, mask, reinterpret_cast<__m256>(value));
#else
    std::memcpy(to, &value, count * sizeof(float));
#endif
}

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
