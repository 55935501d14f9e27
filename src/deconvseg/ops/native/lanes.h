// Exchanges between the lanes of vectors: shuffles, transposes, sums.
#pragma once

#include <utility>

#include "simd.h"

namespace deconvseg {

// The selected lanes of the concatenation of a and b.
template <int... Lane>
DECONVSEG_INLINE vec shuffle(vec a, vec b, std::integer_sequence<int, Lane...>) {
#if defined(__clang__) || __GNUC__ >= 12
    return __builtin_shufflevector(a, b, Lane...);
#else
    return __builtin_shuffle(a, b, ivec{Lane...});
#endif
}

constexpr auto kAllLanes = std::make_integer_sequence<int, kLanes>{};

// Exchange the upper half of every 2 * Step lanes of `a` with the lower half of those of `b`.
template <int Step, int... Lane>
DECONVSEG_INLINE void exchange(vec& a, vec& b, std::integer_sequence<int, Lane...>) {
    const vec first = a, second = b;
    a = shuffle(first, second, std::integer_sequence<int, (Lane & Step ? kLanes + Lane - Step : Lane)...>{});
    b = shuffle(first, second, std::integer_sequence<int, (Lane & Step ? kLanes + Lane : Lane + Step)...>{});
}

template <int Step = 1>
DECONVSEG_INLINE void transpose(vec (&tile)[kLanes]) {
#pragma GCC unroll 16
    for (int row = 0; row < kLanes; ++row)
        if ((row & Step) == 0) exchange<Step>(tile[row], tile[row + Step], kAllLanes);
    if constexpr (2 * Step < kLanes) transpose<2 * Step>(tile);
}

// The upper half of the lanes, then the lower one.
template <int... Lane>
DECONVSEG_INLINE vec exchange_halves(vec a, std::integer_sequence<int, Lane...>) {
    return shuffle(a, a, std::integer_sequence<int, (Lane ^ kLanes / 2)...>{});
}

// zip: alternate the lanes of a and b, beginning at lane First; unzip: every second lane of a, then of b.
template <int First, int... Lane>
DECONVSEG_INLINE vec zip(vec a, vec b, std::integer_sequence<int, Lane...>) {
    return shuffle(a, b, std::integer_sequence<int, (First + Lane / 2 + Lane % 2 * kLanes)...>{});
}

template <int First, int... Lane>
DECONVSEG_INLINE vec unzip(vec a, vec b, std::integer_sequence<int, Lane...>) {
    return shuffle(a, b, std::integer_sequence<int, (First + 2 * Lane)...>{});
}

// Sum each of kLanes vectors into one lane of the result.
template <int Step = 1>
DECONVSEG_INLINE vec sums_of(vec (&terms)[kLanes]) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i += 2 * Step) {
        exchange<Step>(terms[i], terms[i + Step], kAllLanes);
        terms[i] += terms[i + Step];
    }
    if constexpr (2 * Step < kLanes)
        return sums_of<2 * Step>(terms);
    else
        return terms[0];
}

// The sum of all lanes, added pairwise.
template <int... Lane>
DECONVSEG_INLINE float sum_of(vec value, std::integer_sequence<int, Lane...>) {
    if constexpr (kLanes > 8) value += shuffle(value, value, std::integer_sequence<int, (Lane ^ 8)...>{});
    if constexpr (kLanes > 4) value += shuffle(value, value, std::integer_sequence<int, (Lane ^ 4)...>{});
    value += shuffle(value, value, std::integer_sequence<int, (Lane ^ 2)...>{});
    value += shuffle(value, value, std::integer_sequence<int, (Lane ^ 1)...>{});
    return value[0];
}

// The sum of all lanes, from the first to the last.
DECONVSEG_INLINE float sum_in_order(vec values) {
    float sum = 0;
    for (int lane = 0; lane < kLanes; ++lane) sum += values[lane];
    return sum;
}

}  // namespace deconvseg
