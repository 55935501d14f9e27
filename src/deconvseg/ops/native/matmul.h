// Matrix products of a few thousand rows at a time, with operands in cache.
#pragma once

#include "lanes.h"

#if defined(__AVX512BF16__)
#include "bfloat16.h"
#endif

namespace deconvseg {

// Rows and columns of one tile, whose sums stay in registers during the loop over the depth.
constexpr int kTileVectors = 2;
constexpr int kTileColumns = kTileVectors * kLanes;
constexpr int kTileRows = kLanes == 8 ? 4 : 8;

// How a product reads its operands: kDepth consecutive k at once, which lie side by side in both; sum() adds them for the
// first `count` columns, or for all columns in bfloat16, whose vectors are whole.
template <class T>
struct Operands;

template <>
struct Operands<float> {
    static constexpr int kDepth = 1;
    DECONVSEG_INLINE static vec right(const float* from) { return load(from); }
    DECONVSEG_INLINE static vec left(const float* from) { return splat(*from); }
    DECONVSEG_INLINE static vec add(vec sum, vec a, vec b) { return sum + a * b; }
    DECONVSEG_INLINE static vec sum(const float* from, int64_t count) { return load_some(from, count); }
    DECONVSEG_INLINE static float stored(float value) { return value; }
    DECONVSEG_INLINE static void store_rows(float* to, const vec* rows) { store(to, rows[0]); }
};

#if defined(__AVX512BF16__)
template <>
struct Operands<bfloat16> {
    static constexpr int kDepth = 2;
    DECONVSEG_INLINE static pairs right(const bfloat16* from) { return load_pairs(from); }
    DECONVSEG_INLINE static pairs left(const bfloat16* from) { return splat_pair(from); }
    DECONVSEG_INLINE static vec add(vec sum, pairs a, pairs b) { return add_products(sum, a, b); }
    DECONVSEG_INLINE static vec sum(const bfloat16* from, int64_t) {
        const pairs value = load_pairs(from);
        return first_of(value) + second_of(value);
    }
    DECONVSEG_INLINE static bfloat16 stored(float value) { return rounded(value); }
    DECONVSEG_INLINE static void store_rows(bfloat16* to, const vec* rows) { store_pairs(to, pair_up(rows[0], rows[1])); }
};
#endif

// Elements of one packed matrix of `depth` rows.
template <class T = float>
int64_t packed_size(int64_t depth, int64_t columns) {
    constexpr int64_t kDepth = Operands<T>::kDepth;
    return (columns + kTileColumns - 1) / kTileColumns * kTileColumns * ((depth + kDepth - 1) / kDepth * kDepth);
}

// Pack a panel of kTileColumns columns of a matrix given by value(k, column): panel[k][column] or, for bfloat16,
// panel[k / 2][column][k % 2]; missing columns, and the last k of an odd depth, are 0. The loop runs over square blocks,
// because the weights are usually stored transposed.
template <class T, class Value>
void pack_panel(T* panel, int64_t depth, int64_t columns, int64_t first, Value value) {
    constexpr int64_t kSquare = 16, kDepth = Operands<T>::kDepth;
    const int64_t whole = (depth + kDepth - 1) / kDepth * kDepth;
    for (int64_t from = 0; from < whole; from += kSquare) {
        const int64_t to = from + kSquare < whole ? from + kSquare : whole;
        for (int64_t j = 0; j < kTileColumns; ++j)
            for (int64_t k = from; k < to; ++k)
                panel[(k / kDepth * kTileColumns + j) * kDepth + k % kDepth] =
                    Operands<T>::stored(first + j < columns && k < depth ? value(k, first + j) : 0.0f);
    }
}

// A square of a matrix: tile[i] has from[of_k[i] + of_column[lane]], or 0 where an offset is negative.
DECONVSEG_INLINE void load_square(vec (&tile)[kLanes], const float* from, const int64_t* of_k, const int64_t* of_column) {
    const auto in_order = [](const int64_t* offsets) {
        bool yes = offsets[0] >= 0;
        for (int i = 1; i < kLanes; ++i) yes = yes && offsets[i] == offsets[0] + i;
        return yes;
    };
    if (in_order(of_k)) {
        for (int i = 0; i < kLanes; ++i) tile[i] = of_column[i] < 0 ? vec{} : load(from + of_k[0] + of_column[i]);
        transpose(tile);
    } else if (in_order(of_column)) {
        for (int i = 0; i < kLanes; ++i) tile[i] = of_k[i] < 0 ? vec{} : load(from + of_k[i] + of_column[0]);
    } else {
        for (int i = 0; i < kLanes; ++i) {
            float row[kLanes];
            for (int j = 0; j < kLanes; ++j)
                row[j] = of_k[i] < 0 || of_column[j] < 0 ? 0.0f : from[of_k[i] + of_column[j]];
            tile[i] = load(row);
        }
    }
}

// The same of the matrix from[k_at(k) + column_at(column)]; a negative offset is that of a row or column of zeros. The
// offsets are computed once for a panel, and squares are moved by whole vectors where offsets follow one another.
template <class T, class KAt, class ColumnAt>
void pack_panel(T* panel, int64_t depth, int64_t columns, int64_t first, const float* from, KAt k_at,
                ColumnAt column_at) {
    constexpr int64_t kDepth = Operands<T>::kDepth;
    const int64_t whole = (depth + kDepth - 1) / kDepth * kDepth;
    int64_t of_column[kTileColumns], of_k[kLanes];
    for (int64_t j = 0; j < kTileColumns; ++j) of_column[j] = first + j < columns ? column_at(first + j) : -1;
    for (int64_t k = 0; k < whole; k += kLanes) {
        for (int64_t i = 0; i < kLanes; ++i) of_k[i] = k + i < depth ? k_at(k + i) : -1;
        for (int v = 0; v < kTileVectors; ++v) {
            vec tile[kLanes];
            load_square(tile, from, of_k, of_column + v * kLanes);
            for (int64_t i = 0; i < kLanes && k + i < whole; i += kDepth)
                Operands<T>::store_rows(panel + (k + i) * kTileColumns + v * kLanes * kDepth, tile + i);
        }
    }
}

// The left matrix, with elements (row, k); its depth may be split into segments (channel blocks), `segment` elements
// apart. In bfloat16 the depth of a segment is even, `step` is 1, and rows begin at multiples of two elements.
template <class T>
struct LeftOf {
    using Element = T;

    const T* data;
    int64_t row;           // elements from one row to the next
    int64_t step;          // elements from one k to the next
    int64_t depth;         // k in one segment
    int64_t segments = 1;  // number of segments
    int64_t segment = 0;   // elements from one segment to the next
};
using Left = LeftOf<float>;

template <int Rows, int Vectors, class T>
DECONVSEG_INLINE void multiply_tile(vec (&sums)[Rows][Vectors], const LeftOf<T>& left, const T* a, const T* b,
                                    int64_t b_row) {
    using Of = Operands<T>;
    for (int64_t s = 0; s < left.segments; ++s, a += left.segment) {
        const T* at = a;
        for (int64_t k = 0; k < left.depth; k += Of::kDepth, at += Of::kDepth * left.step, b += Of::kDepth * b_row) {
            decltype(Of::right(b)) right[Vectors];
#pragma GCC unroll 4
            for (int j = 0; j < Vectors; ++j) right[j] = Of::right(b + j * Of::kDepth * kLanes);
#pragma GCC unroll 16
            for (int i = 0; i < Rows; ++i) {
                const auto value = Of::left(at + i * left.row);
#pragma GCC unroll 4
                for (int j = 0; j < Vectors; ++j) sums[i][j] = Of::add(sums[i][j], value, right[j]);
            }
        }
    }
}

template <int Rows, int Vectors, class T, class Finish>
DECONVSEG_INLINE void run_tile(const LeftOf<T>& left, int64_t row, const T* b, int64_t b_row, int64_t column,
                               Finish finish) {
    vec sums[Rows][Vectors] = {};
    multiply_tile<Rows, Vectors>(sums, left, left.data + row * left.row, b, b_row);
    if constexpr (Operands<T>::kDepth > 1) {
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i) finish(row + i, column, sums[i]);
    } else {
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < Vectors; ++j) finish(row + i, column + j * kLanes, sums[i][j]);
    }
}

// Product of rows with one panel of columns; finish(row, column, sums) receives each vector of sums or, in bfloat16,
// those of a row as an array (of two vectors, or of one in a narrow last panel), which are stored together.
template <int Vectors, class T, class Finish>
DECONVSEG_INLINE void multiply_panel(const LeftOf<T>& left, int64_t rows, const T* b, int64_t b_row, int64_t column,
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

// One panel, beginning at `column`, of a product with `columns` columns.
template <class T, class Finish>
DECONVSEG_INLINE void multiply_column(const LeftOf<T>& left, int64_t rows, const T* panel, int64_t columns,
                                      int64_t column, Finish finish) {
    if (columns - column > kLanes)
        multiply_panel<kTileVectors>(left, rows, panel, kTileColumns, column, finish);
    else
        multiply_panel<1>(left, rows, panel, kTileColumns, column, finish);
}

// Store make(sum, c) of each vector that finish() receives, where column c counts from the first of them; with a `count` of
// columns from there on, nothing beyond it.
template <class T, class Make>
DECONVSEG_INLINE void store_each(T* to, vec sum, Make make) {
    store(to, make(sum, 0));
}
template <class T, class Make>
DECONVSEG_INLINE void store_each(T* to, vec sum, int64_t count, Make make) {
    store_some(to, make(sum, 0), count);
}
#if defined(__AVX512BF16__)
template <class T, int Vectors, class Make>
DECONVSEG_INLINE void store_each(T* to, const vec (&sums)[Vectors], Make make) {
    store_each(to, sums, Vectors * kLanes, make);
}
template <class T, int Vectors, class Make>
DECONVSEG_INLINE void store_each(T* to, const vec (&sums)[Vectors], int64_t count, Make make) {
    vec values[Vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) values[v] = make(sums[v], v * kLanes);
    if (count >= Vectors * kLanes) return store_all(to, values);
    for (int v = 0; v < Vectors; ++v) store_some(to + v * kLanes, values[v], count - v * kLanes);
}
#endif

// Product of `rows` rows with a packed matrix of `columns` columns; the last sums of a row may belong to missing columns.
template <class T, class Finish>
void multiply(const LeftOf<T>& left, int64_t rows, const typename LeftOf<T>::Element* packed, int64_t columns,
              Finish finish) {
    const int64_t depth = left.depth * left.segments;
    for (int64_t column = 0; column < columns; column += kTileColumns, packed += packed_size<T>(depth, kTileColumns))
        multiply_column(left, rows, packed, columns, column, finish);
}

}  // namespace deconvseg
