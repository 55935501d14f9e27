// bfloat16 storage: the upper half of a float32. Numbers are widened to float32 to compute with, and rounded to the
// nearest, ties to even, when they are stored. Products of pairs are summed in float32.
//
// Only for sources named bfloat16.cpp, which are compiled for AVX512-BF16 into a library of their own (build.py). Its
// conversions and products treat numbers below 1.2e-38 as zero.
#pragma once

#include <immintrin.h>

#include "lanes.h"

namespace deconvseg {

// GCC before version 13 has no type for these bits.
struct bfloat16 {
    uint16_t bits;
};

// kLanes pairs of bfloat16, the first of each pair in the lower half of a lane.
typedef ivec pairs;
// Half a vector: kLanes bfloat16.
typedef uint16_t halves __attribute__((vector_size(kLanes * sizeof(uint16_t))));

DECONVSEG_INLINE vec widen(halves value) {
    return (vec)(__builtin_convertvector(value, ivec) << 16);
}

DECONVSEG_INLINE halves narrow(vec value) { return (halves)_mm512_cvtneps_pbh((__m512)value); }

DECONVSEG_INLINE vec load(const bfloat16* from) {
    halves value;
    std::memcpy(&value, from, sizeof value);
    return widen(value);
}

DECONVSEG_INLINE void store(bfloat16* to, vec value) {
    const halves rounded = narrow(value);
    std::memcpy(to, &rounded, sizeof rounded);
}

// A mask of the first `count` lanes.
DECONVSEG_INLINE __mmask16 first_lanes(int64_t count) {
    return static_cast<__mmask16>(count >= kLanes ? 0xffff : (1 << (count > 0 ? count : 0)) - 1);
}

DECONVSEG_INLINE vec load_some(const bfloat16* from, int64_t count) {
    return widen((halves)_mm256_maskz_loadu_epi16(first_lanes(count), from));
}

DECONVSEG_INLINE void store_some(bfloat16* to, vec value, int64_t count) {
    _mm256_mask_storeu_epi16(to, first_lanes(count), (__m256i)narrow(value));
}

DECONVSEG_INLINE bfloat16 rounded(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (value != value) return {static_cast<uint16_t>(bits >> 16 | 0x40)};
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

DECONVSEG_INLINE float widened(bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

// The pair at an address, in all lanes.
DECONVSEG_INLINE pairs splat_pair(const bfloat16* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return pair - pairs{};
}

DECONVSEG_INLINE pairs load_pairs(const bfloat16* from) {
    pairs value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// For values that are used several times; see load_once in ndc/kernels.h.
DECONVSEG_INLINE pairs load_pairs_once(const bfloat16* from) {
    pairs value = load_pairs(from);
    asm("" : "+v"(value));
    return value;
}

DECONVSEG_INLINE void store_pairs(bfloat16* to, pairs value) { std::memcpy(to, &value, sizeof value); }

// 2 * kLanes numbers in order.
DECONVSEG_INLINE pairs narrow(vec low, vec high) { return (pairs)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low); }

// Lane by lane, the pair of a first and a second number.
DECONVSEG_INLINE pairs pair_up(vec first, vec second) {
    typedef int16_t words __attribute__((vector_size(2 * kLanes * sizeof(int16_t))));
    constexpr words order = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                             8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return (pairs)_mm512_permutexvar_epi16((__m512i)order, (__m512i)narrow(first, second));
}

// Store the sums of a row of a matrix product.
DECONVSEG_INLINE void store_all(bfloat16* to, const vec (&values)[2]) { store_pairs(to, narrow(values[0], values[1])); }
DECONVSEG_INLINE void store_all(bfloat16* to, const vec (&values)[1]) { store(to, values[0]); }
template <int Vectors>
DECONVSEG_INLINE void store_all(float* to, const vec (&values)[Vectors]) {
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) store(to + v * kLanes, values[v]);
}

// The first of each pair, and the second of those at an address.
DECONVSEG_INLINE pairs with_second_of(pairs value, const bfloat16* from) {
    return (pairs)_mm512_mask_loadu_epi16((__m512i)value, 0xaaaaaaaa, from);
}

DECONVSEG_INLINE vec first_of(pairs value) { return (vec)(value << 16); }
DECONVSEG_INLINE vec second_of(pairs value) { return (vec)(value & static_cast<int32_t>(0xffff0000)); }

// sum + a.first * b.first + a.second * b.second in each lane.
DECONVSEG_INLINE vec add_products(vec sum, pairs a, pairs b) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

}  // namespace deconvseg
