// Matrix products of a few thousand rows at a time, with operands in cache.
#pragma once

#include "simd.h"

namespace deconvseg {

// Rows and columns of one tile, whose sums stay in registers during the loop over the depth.
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kLanes;
constexpr int kTileRows = kLanes == 8 ? 4 : 8;

// Floats of one packed matrix of `depth` rows.
inline int64_t packed_size(int64_t depth, int64_t columns) {
    return (columns + kTileColumns - 1) / kTileColumns * kTileColumns * depth;
}

// Pack a panel of kTileColumns columns of a matrix given by value(k, column): panel[k][column]; missing columns are 0.
// The loop runs over square blocks, because the weights are usually stored transposed.
template <class Value>
void pack_panel(float* panel, int64_t depth, int64_t columns, int64_t first, Value value) {
    constexpr int64_t kSquare = 16;
    for (int64_t from = 0; from < depth; from += kSquare) {
        const int64_t to = from + kSquare < depth ? from + kSquare : depth;
        for (int64_t j = 0; j < kTileColumns; ++j)
            for (int64_t k = from; k < to; ++k)
                panel[k * kTileColumns + j] = first + j < columns ? value(k, first + j) : 0.0f;
    }
}

// The left matrix, with elements (row, k); its depth may be split into segments (channel blocks), `segment` floats
// apart.
struct Left {
    const float* data;
    int64_t row;           // floats from one row to the next
    int64_t step;          // floats from one k to the next
    int64_t depth;         // k in one segment
    int64_t segments = 1;  // number of segments
    int64_t segment = 0;   // floats from one segment to the next
};

template <int Rows, int Vectors>
DECONVSEG_INLINE void multiply_tile(vec (&sums)[Rows][Vectors], const Left& left, const float* a, const float* b,
                                    int64_t b_row) {
    for (int64_t s = 0; s < left.segments; ++s, a += left.segment) {
        const float* at = a;
        for (int64_t k = 0; k < left.depth; ++k, at += left.step, b += b_row) {
            vec right[Vectors];
#pragma GCC unroll 4
            for (int j = 0; j < Vectors; ++j) right[j] = load(b + j * kLanes);
#pragma GCC unroll 16
            for (int i = 0; i < Rows; ++i) {
                const vec value = splat(at[i * left.row]);
#pragma GCC unroll 4
                for (int j = 0; j < Vectors; ++j) sums[i][j] += value * right[j];
            }
        }
    }
}

template <int Rows, int Vectors, class Finish>
DECONVSEG_INLINE void run_tile(const Left& left, int64_t row, const float* b, int64_t b_row, int64_t column,
                               Finish finish) {
    vec sums[Rows][Vectors] = {};
    multiply_tile<Rows, Vectors>(sums, left, left.data + row * left.row, b, b_row);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) finish(row + i, column + j * kLanes, sums[i][j]);
}

// Product of rows with one panel of columns; finish(row, column, sums) receives each vector of sums.
template <int Vectors, class Finish>
DECONVSEG_INLINE void multiply_panel(const Left& left, int64_t rows, const float* b, int64_t b_row, int64_t column,
                                     Finish finish) {
    int64_t row = 0;
    for (; row + kTileRows <= rows; row += kTileRows)
        run_tile<kTileRows, Vectors>(left, row, b, b_row, column, finish);
    if (kTileRows > 4 && row + 4 <= rows) {
        run_tile<4, Vectors>(left, row, b, b_row, column, finish);
        row += 4;
    }
    for (; row < rows; ++row) run_tile<1, Vectors>(left, row, b, b_row, column, finish);
}

// One panel, beginning at `column`, of a product with `columns` columns (a multiple of kLanes).
template <class Finish>
DECONVSEG_INLINE void multiply_column(const Left& left, int64_t rows, const float* panel, int64_t columns, int64_t column,
                                      Finish finish) {
    if (columns - column > kLanes)
        multiply_panel<kTileVectors>(left, rows, panel, kTileColumns, column, finish);
    else
        multiply_panel<1>(left, rows, panel, kTileColumns, column, finish);
}

// Product of `rows` rows with a packed matrix of `columns` columns (a multiple of kLanes).
template <class Finish>
void multiply(const Left& left, int64_t rows, const float* packed, int64_t columns, Finish finish) {
    const int64_t depth = left.depth * left.segments;
    for (int64_t column = 0; column < columns; column += kTileColumns, packed += depth * kTileColumns)
        multiply_column(left, rows, packed, columns, column, finish);
}

}  // namespace deconvseg
