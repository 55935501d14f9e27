// Sums over voxels in bfloat16: products of pairs of voxels. An operand has pairs of voxels side by side,
// [x / 2][channel][2]; the partner of a last single voxel is 0.
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

template <int Rows, int Vectors, class LeftAt, class RightAt>
DECONVSEG_INLINE void add_outer_pairs_tile(float* sum, int64_t columns, int64_t row, int64_t column, int64_t first,
                                           int64_t last, int64_t count, LeftAt left, int64_t left_step, RightAt right,
                                           int64_t right_step) {
    vec sums[Rows][Vectors] = {};
    for (int64_t line = first; line < last; ++line) {
        const bfloat16* a = left(line, row);
        const bfloat16 *b = right(line, column), *c = Vectors > 1 ? right(line, column + kLanes) : b;
        for (int64_t x = 0; x < count; ++x, a += left_step, b += right_step, c += right_step) {
            const pairs values[2] = {load_pairs(b), load_pairs(c)};
#pragma GCC unroll 8
            for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
                for (int j = 0; j < Vectors; ++j) sums[i][j] = add_products(sums[i][j], splat_pair(a + 2 * i), values[j]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < Vectors; ++j) {
            float* to = sum + (row + i) * columns + column + j * kLanes;
            const int64_t rest = columns - column - j * kLanes;
            store_some(to, load_some(to, rest) + sums[i][j], rest);
        }
}

template <int Rows, class... Arguments>
DECONVSEG_INLINE void add_outer_pairs_rows(float* sum, int64_t columns, int64_t row, int64_t column,
                                           Arguments... arguments) {
    if (columns - column > kLanes)
        add_outer_pairs_tile<Rows, 2>(sum, columns, row, column, arguments...);
    else
        add_outer_pairs_tile<Rows, 1>(sum, columns, row, column, arguments...);
}

// As add_outer, over `count` pairs of voxels of each line; the steps are the numbers from one pair to the next.
template <class LeftAt, class RightAt>
void add_outer_pairs(const Worker& worker, float* sum, int64_t rows, int64_t columns, int64_t first, int64_t last,
                     int64_t count, LeftAt left, int64_t left_step, RightAt right, int64_t right_step) {
    constexpr int64_t kRows = 64;  // per task
    const int64_t row_tasks = (rows + kRows - 1) / kRows, column_tasks = (columns + kTileColumns - 1) / kTileColumns;
    const int64_t at_once = std::max<int64_t>(1, 256 / count);  // lines whose columns stay in the L1 cache
    worker.share(row_tasks * column_tasks, [&](int64_t task) {
        const int64_t column = task / row_tasks * kTileColumns, row = task % row_tasks * kRows;
        for (int64_t from = first; from < last; from += at_once)
            for (int64_t r = row, end = std::min(rows, row + kRows); r < end;) {
                const int64_t to = std::min(last, from + at_once);
                const bool whole = r + kOuterRows <= end;
                if (whole)
                    add_outer_pairs_rows<kOuterRows>(sum, columns, r, column, from, to, count, left, left_step, right,
                                                     right_step);
                else
                    add_outer_pairs_rows<1>(sum, columns, r, column, from, to, count, left, left_step, right, right_step);
                r += whole ? kOuterRows : 1;
            }
    });
}

// sum[column] += values(line, column) over all lines and their `count` pairs of voxels.
template <class ValuesAt>
void add_columns_of_pairs(const Worker& worker, float* sum, int64_t columns, int64_t first, int64_t last, int64_t count,
                          ValuesAt values, int64_t step) {
    worker.share((columns + kLanes - 1) / kLanes, [&](int64_t i) {
        const int64_t rest = columns - i * kLanes;
        vec total{};
        for (int64_t line = first; line < last; ++line) {
            const bfloat16* from = values(line, i * kLanes);
            vec of_line{};
            for (int64_t x = 0; x < count; ++x) {
                const pairs value = load_pairs(from + x * step);
                of_line += first_of(value) + second_of(value);
            }
            total += of_line;
        }
        store_some(sum + i * kLanes, load_some(sum + i * kLanes, rest) + total, rest);
    });
}

}  // namespace deconvseg
