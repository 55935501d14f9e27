// Operands of the sums over voxels in bfloat16: pairs of voxels side by side, [x / 2][channel][2]; the partner of a last
// single voxel is 0.
#pragma once

#include "bfloat16.h"
#include "outer.h"

namespace deconvseg {

inline int64_t voxel_pairs(int64_t voxels) { return (voxels + 1) / 2; }

// Pair the voxels of `rows`, [x][columns]; `columns` is a multiple of kLanes.
inline void pair_voxels(bfloat16* to, const bfloat16* rows, int64_t voxels, int64_t columns) {
    const auto bits = [&](int64_t x, int64_t c) {
        halves value{};
        if (x < voxels) std::memcpy(&value, rows + x * columns + c, sizeof value);
        return __builtin_convertvector(value, pairs);
    };
    for (int64_t x = 0; x < voxels; x += 2, to += 2 * columns)
        for (int64_t c = 0; c < columns; c += kLanes) store_pairs(to + 2 * c, bits(x, c) | bits(x + 1, c) << 16);
}

// The same for `columns` numbers of each voxel in pairs of sources, [r / 2][kLanes][2], as [r][kLanes]; `from` is `step`
// numbers from one voxel to the next, and `to` 2 * `to_step` numbers from one pair to the next.
inline void pair_sources(bfloat16* to, int64_t to_step, const bfloat16* from, int64_t step, int64_t voxels,
                         int64_t columns) {
    constexpr int32_t kFirst = 0xffff, kSecond = ~kFirst;
    for (int64_t x = 0; x < voxels; x += 2, to += 2 * to_step, from += 2 * step)
        for (int64_t c = 0; c < columns; c += 2 * kLanes) {
            const pairs a = load_pairs(from + c), b = x + 1 < voxels ? load_pairs(from + step + c) : pairs{};
            store_pairs(to + 2 * c, (a & kFirst) | b << 16);
            store_pairs(to + 2 * (c + kLanes), (a >> 16 & kFirst) | (b & kSecond));
        }
}

}  // namespace deconvseg
