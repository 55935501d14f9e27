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

DECONVSEG_INLINE vec load_some(const bfloat16* from, int64_t count) {
    if (count >= kLanes) return load(from);
    halves value{};
    if (count > 0) std::memcpy(&value, from, count * sizeof(bfloat16));
    return widen(value);
}

DECONVSEG_INLINE void store_some(bfloat16* to, vec value, int64_t count) {
    const halves rounded = narrow(value);
    if (count > 0) std::memcpy(to, &rounded, (count < kLanes ? count : kLanes) * sizeof(bfloat16));
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

DECONVSEG_INLINE pairs load_pairs(const bfloat16* from) {
    pairs value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

DECONVSEG_INLINE void store_pairs(bfloat16* to, pairs value) { std::memcpy(to, &value, sizeof value); }

// The pair at an address, in all lanes.
DECONVSEG_INLINE pairs splat_pair(const bfloat16* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return pair - pairs{};
}

// Lane by lane, the pair of a first and a second number.
DECONVSEG_INLINE pairs pair_up(vec first, vec second) {
    const pairs low = __builtin_convertvector(narrow(first), pairs);
    return low | __builtin_convertvector(narrow(second), pairs) << 16;
}

DECONVSEG_INLINE vec first_of(pairs value) { return (vec)(value << 16); }
DECONVSEG_INLINE vec second_of(pairs value) { return (vec)(value & static_cast<int32_t>(0xffff0000)); }

// sum + a.first * b.first + a.second * b.second in each lane.
DECONVSEG_INLINE vec add_products(vec sum, pairs a, pairs b) {
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

}  // namespace deconvseg
