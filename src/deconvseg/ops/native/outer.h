// Sums over voxels: gradients of weight matrices and of biases. In bfloat16 an operand has pairs of voxels side by side
// (outer_bfloat16.h), and the products and sums are those of pairs.
#pragma once

#include <algorithm>
#include <type_traits>

#include "matmul.h"
#include "parallel.h"

namespace deconvseg {

constexpr int kOuterRows = kTileRows < kLanes ? kTileRows : kLanes;

// How the elements at an address are read.
template <class Address>
using OperandsAt = Operands<std::remove_const_t<std::remove_pointer_t<Address>>>;

// `Rows` rows from `row` on; of the last vector of a row of `sum` only the existing columns are written.
template <int Rows, int Vectors, class LeftAt, class RightAt>
DECONVSEG_INLINE void add_outer_tile(float* sum, int64_t columns, int64_t row, int64_t column, int64_t first,
                                     int64_t last, int64_t count, LeftAt left, int64_t left_step, RightAt right,
                                     int64_t right_step) {
    using Of = OperandsAt<decltype(left(first, row))>;
    // Starts from zero instead of `sum`, because sums of partial sums have smaller rounding errors.
    vec sums[Rows][Vectors] = {};
    for (int64_t line = first; line < last; ++line) {
        const auto* a = left(line, row);
        const auto *b = right(line, column), *c = Vectors > 1 ? right(line, column + kLanes) : b;
        for (int64_t x = 0; x < count; ++x, a += left_step, b += right_step, c += right_step) {
            const decltype(Of::right(b)) values[2] = {Of::right(b), Of::right(c)};
#pragma GCC unroll 8
            for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
                for (int j = 0; j < Vectors; ++j)
                    sums[i][j] = Of::add(sums[i][j], Of::left(a + i * Of::kDepth), values[j]);
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
DECONVSEG_INLINE void add_outer_rows(float* sum, int64_t columns, int64_t row, int64_t column, Arguments... arguments) {
    if (columns - column > kLanes)
        add_outer_tile<Rows, 2>(sum, columns, row, column, arguments...);
    else
        add_outer_tile<Rows, 1>(sum, columns, row, column, arguments...);
}

// sum[row][column] += left(line, row)[x] right(line, column)[x] over all lines and their `count` voxels x, or pairs of
// voxels in bfloat16; the steps are the elements from one to the next. Each worker adds to its own part of `sum`, in the
// order of the lines. The vectors of `right` are whole: a number of columns that is no multiple of the lanes is padded
// there, but not in `sum`.
template <class LeftAt, class RightAt>
void add_outer(const Worker& worker, float* sum, int64_t rows, int64_t columns, int64_t first, int64_t last,
               int64_t count, LeftAt left, int64_t left_step, RightAt right, int64_t right_step) {
    constexpr int64_t kMost = 64, kEnough = 8;  // rows per task, and tasks of a step that occupy all threads
    const int64_t column_tasks = (columns + kTileColumns - 1) / kTileColumns;
    int64_t size = kMost;
    while (size > kOuterRows && (rows + size - 1) / size * column_tasks < kEnough) size /= 2;
    const int64_t row_tasks = (rows + size - 1) / size;
    const int64_t at_once = std::max<int64_t>(1, 256 / count);  // lines whose columns stay in the L1 cache
    worker.share(row_tasks * column_tasks, [&](int64_t task) {
        const int64_t column = task / row_tasks * kTileColumns, row = task % row_tasks * size;
        for (int64_t from = first; from < last; from += at_once)
            for (int64_t r = row, end = std::min(rows, row + size); r < end;) {
                const int64_t to = std::min(last, from + at_once);
                const bool whole = r + kOuterRows <= end;
                if (whole)
                    add_outer_rows<kOuterRows>(sum, columns, r, column, from, to, count, left, left_step, right, right_step);
                else
                    add_outer_rows<1>(sum, columns, r, column, from, to, count, left, left_step, right, right_step);
                r += whole ? kOuterRows : 1;
            }
    });
}

// sum[column] += values(line, column)[x] over all lines and their `count` voxels or pairs x.
template <class ValuesAt>
void add_columns(const Worker& worker, float* sum, int64_t columns, int64_t first, int64_t last, int64_t count,
                 ValuesAt values, int64_t step) {
    worker.share((columns + kLanes - 1) / kLanes, [&](int64_t i) {
        const int64_t rest = columns - i * kLanes;
        vec total{};
        for (int64_t line = first; line < last; ++line) {
            const auto* from = values(line, i * kLanes);
            vec of_line{};
            for (int64_t x = 0; x < count; ++x) of_line += OperandsAt<decltype(from)>::sum(from + x * step, rest);
            total += of_line;
        }
        store_some(sum + i * kLanes, load_some(sum + i * kLanes, rest) + total, rest);
    });
}

}  // namespace deconvseg
