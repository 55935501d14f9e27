// Dense convolutions with the channels innermost, as matrix products of gathered lines; exported as C functions.
//
// A convolution maps an image `high` to an image `low`. Its adjoint, a transposed convolution, maps `low` to `high`; it
// is implemented for kernel = stride. Weights are (low channels, high channels, kernel) for both.

#include "interface.h"
#include "outer.h"

using namespace deconvseg;

namespace {

struct Shape {
    int64_t batch, low_channels, high_channels, low[3], high[3], kernel[3], stride[3], padding[3], threads;

    int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
    int64_t depth() const { return taps() * high_channels; }
    int64_t low_voxels() const { return batch * low[0] * low[1] * low[2]; }
    bool pointwise() const {
        bool same = true;
        for (int axis = 0; axis < 3; ++axis) same = same && kernel[axis] == 1 && stride[axis] == 1 && padding[axis] == 0;
        return same;
    }
};

Shape shape_of(const int64_t* sizes) { return shape_from<Shape, 19>(sizes); }

// Move `count` floats. Runs are too short for calls of the C library, and the compiler would make one of a plain loop.
DECONVSEG_INLINE void move(const float* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; i += kLanes) store_some(to + i, load_some(from + i, count - i), count - i);
}
DECONVSEG_INLINE void clear(int64_t count, float* to) {
    for (int64_t i = 0; i < count; i += kLanes) store_some(to + i, vec{}, count - i);
}

// Gather the receptive fields of some low voxels, (voxels, taps, high channels), in rows of `row` floats; zero outside.
void gather(const Shape& shape, const float* high, int64_t first, int64_t last, float* to, int64_t row) {
    const int64_t channels = shape.high_channels, run = shape.kernel[2] * channels;
    for (int64_t voxel = first; voxel < last;) {
        // Divisions for a line and not for each of its voxels.
        const int64_t line = voxel / shape.low[2], y = line % shape.low[1], plane = line / shape.low[1];
        const int64_t z = plane % shape.low[0], sample = plane / shape.low[0];
        const int64_t begin_of_line = line * shape.low[2], end = std::min(last, begin_of_line + shape.low[2]);
        for (; voxel < end; ++voxel, to += row) {
            const int64_t x0 = (voxel - begin_of_line) * shape.stride[2] - shape.padding[2];
            const int64_t from = std::max<int64_t>(0, -x0), until = std::min(shape.kernel[2], shape.high[2] - x0);
            float* at = to;
            for (int64_t kz = 0; kz < shape.kernel[0]; ++kz)
                for (int64_t ky = 0; ky < shape.kernel[1]; ++ky, at += run) {
                    const int64_t hz = z * shape.stride[0] - shape.padding[0] + kz;
                    const int64_t hy = y * shape.stride[1] - shape.padding[1] + ky;
                    const bool inside = hz >= 0 && hz < shape.high[0] && hy >= 0 && hy < shape.high[1] && from < until;
                    const int64_t begin = inside ? from * channels : run, past = inside ? until * channels : run;
                    clear(begin, at);
                    if (inside) {
                        const int64_t above = (sample * shape.high[0] + hz) * shape.high[1] + hy;
                        move(high + (above * shape.high[2] + x0) * channels + begin, past - begin, at + begin);
                    }
                    clear(run - past, at + past);
                }
            clear(to + row - at, at);
        }
    }
}

// Low voxels per task: enough to reuse a panel of weights several times, few enough to stay in cache.
int64_t rows_at_once(int64_t depth) { return std::clamp<int64_t>(65536 / depth / 8 * 8, 8, 128); }

template <class Task>
void share_rows(const Worker& worker, int64_t voxels, int64_t rows, Task task) {
    worker.share((voxels + rows - 1) / rows, [&](int64_t i) { task(i * rows, std::min(voxels, (i + 1) * rows)); });
}

vec bias_at(const float* bias, int64_t column, int64_t columns) {
    return bias == nullptr ? vec{} : load_some(bias + column, columns - column);
}

void convolve(const Shape& shape, const float* high, const float* weight, const float* bias, float* low) {
    const int64_t depth = shape.depth(), taps = shape.taps(), columns = shape.low_channels;
    const int64_t rows = rows_at_once(depth);
    Buffer packed(packed_size(depth, columns)), gathered(shape.pointwise() ? 0 : shape.threads * rows * depth);
    run_team(shape.threads, [&](const Worker& worker) {
        worker.share((columns + kTileColumns - 1) / kTileColumns, [&](int64_t panel) {
            pack_panel(packed + panel * depth * kTileColumns, depth, columns, panel * kTileColumns,
                       weight,
                       [&](int64_t k) { return k % shape.high_channels * taps + k / shape.high_channels; },
                       [&](int64_t column) { return column * shape.high_channels * taps; });
        });
        worker.meet();
        share_rows(worker, shape.low_voxels(), rows, [&](int64_t first, int64_t last) {
            const float* left = high + first * depth;
            if (!shape.pointwise()) {
                float* own = gathered + worker.index * rows * depth;
                gather(shape, high, first, last, own, depth);
                left = own;
            }
            multiply(Left{left, depth, 1, depth}, last - first, packed, columns,
                     [&](int64_t row, int64_t column, vec sums) {
                         store_some(low + (first + row) * columns + column, sums + bias_at(bias, column, columns),
                                    columns - column);
                     });
        });
    });
}

// For kernel = stride: a low voxel produces a run of high voxels along x for each (kz, ky); runs leave no gaps.
void spread(const Shape& shape, const float* low, const float* weight, const float* bias, float* high, bool add) {
    constexpr int64_t kRows = 128;  // low voxels per task
    const int64_t depth = shape.low_channels, channels = shape.high_channels, width = shape.low[2];
    const int64_t taps = shape.taps(), across = shape.kernel[2], columns = across * channels;
    const int64_t pairs = shape.kernel[0] * shape.kernel[1], size = packed_size(depth, columns);
    const int64_t voxels = shape.low_voxels(), groups = (voxels + kRows - 1) / kRows;
    Buffer packed(pairs * size), biases(padded(columns));
    run_team(shape.threads, [&](const Worker& worker) {
        worker.share(1, [&](int64_t) {
            for (int64_t column = 0; column < padded(columns); ++column)
                biases[column] = bias == nullptr ? 0.0f : bias[column % channels];
        });
        worker.share(pairs, [&](int64_t pair) {
            for (int64_t column = 0; column < columns; column += kTileColumns)
                pack_panel(packed + pair * size + column * depth, depth, columns, column, weight + pair * across,
                           [&](int64_t k) { return k * channels * taps; },
                           [&](int64_t c) { return c % channels * taps + c / channels; });
        });
        worker.meet();
        worker.share(pairs * groups, [&](int64_t task) {
            const int64_t pair = task % pairs, first = task / pairs * kRows, rows = std::min(kRows, voxels - first);
            const int64_t kz = pair / shape.kernel[1], ky = pair % shape.kernel[1];
            for (int64_t column = 0; column < columns; column += kTileColumns)
                for (int64_t from = first, end; from < first + rows; from = end) {
                    const int64_t line = from / width, x = from % width;
                    end = std::min(first + rows, (line + 1) * width);
                    const int64_t plane = line / shape.low[1] * shape.kernel[0] + kz;
                    const int64_t above = plane * shape.high[1] + line % shape.low[1] * shape.kernel[1] + ky;
                    float* to = high + above * shape.high[2] * channels + x * columns;
                    multiply_column(Left{low + from * depth, depth, 1, depth}, end - from,
                                    packed + pair * size + column * depth, columns, column,
                                    [&](int64_t row, int64_t c, vec sums) {
                                        float* at = to + row * columns + c;
                                        const vec value = sums + load(biases + c);
                                        store_some(at, add ? load_some(at, columns - c) + value : value, columns - c);
                                    });
                }
        });
    });
}

// gradient[k][n] = sum over low voxels of the receptive field (k) times low (n); total[n] += sum of low, if given.
void weigh(const Shape& shape, const float* low, const float* high, float* gradient, float* total) {
    constexpr int64_t kWidth = 64;
    const int64_t columns = shape.low_channels, depth = shape.depth(), voxels = shape.low_voxels();
    // Images are read in place where their rows are those of the product. Wide rows are copied: those of a power of two
    // would share a few sets of the cache.
    const bool seen_in_place = shape.pointwise() && depth < 8 * kLanes;
    const bool whole = columns % kLanes == 0 && columns < 8 * kLanes;
    const int64_t seen_row = seen_in_place ? depth : depth + kLanes, inner = whole ? columns : padded(columns) + kLanes;
    const int64_t lines = std::clamp<int64_t>((int64_t{1} << 19) / (depth * kWidth), 2, 32);
    const int64_t rows = std::min(lines * kWidth, (voxels + kWidth - 1) / kWidth * kWidth);
    Buffer seen(seen_in_place ? 0 : rows * seen_row), grads(whole ? 0 : rows * inner);
    std::fill_n(gradient, depth * columns, 0.0f);
    run_team(shape.threads, [&](const Worker& worker) {
        for (int64_t from = 0; from < voxels; from += rows) {
            const int64_t count = std::min(rows, voxels - from);
            if (!seen_in_place || !whole) {
                worker.share((count + kWidth - 1) / kWidth, [&](int64_t line) {
                    const int64_t at = line * kWidth, end = std::min(count, at + kWidth);
                    if (!seen_in_place) gather(shape, high, from + at, from + end, seen + at * seen_row, seen_row);
                    if (!whole)
                        for (int64_t voxel = at; voxel < end; ++voxel)
                            for (int64_t c = 0; c < columns; c += kLanes)
                                store(grads + voxel * inner + c, load_some(low + (from + voxel) * columns + c, columns - c));
                });
                worker.meet();
            }
            const float* left = seen_in_place ? high + from * depth : seen;
            const float* right = whole ? low + from * columns : grads;
            const auto rows_of = [&](int64_t line, int64_t row) { return left + line * kWidth * seen_row + row; };
            const auto columns_of = [&](int64_t line, int64_t c) { return right + line * kWidth * inner + c; };
            const auto add = [&](int64_t first, int64_t last, int64_t width) {
                add_outer(worker, gradient, depth, columns, first, last, width, rows_of, seen_row, columns_of, inner);
                if (total != nullptr) add_columns(worker, total, columns, first, last, width, columns_of, inner);
                worker.meet();
            };
            // Full lines first, then the remaining voxels as one shorter line.
            const int64_t full = count / kWidth;
            if (full > 0) add(0, full, kWidth);
            if (count % kWidth != 0) add(full, full + 1, count % kWidth);
        }
    });
}

}  // namespace

// Images are (batch, depth, height, width, channels); sizes are the fields of Shape in order; a bias may be null. Each
// function returns 0, or 1 if memory ran out.

extern "C" int deconvseg_conv(const float* high, const float* weight, const float* bias, float* low,
                              const int64_t* sizes) {
    const Shape shape = shape_of(sizes);
    prefer_large_pages(low, shape.low_voxels() * shape.low_channels * sizeof(float));
    return guarded([&] { convolve(shape, high, weight, bias, low); });
}

extern "C" int deconvseg_conv_transpose(const float* low, const float* weight, const float* bias, float* high,
                                        const int64_t* sizes) {
    const Shape shape = shape_of(sizes);
    prefer_large_pages(high, shape.low_voxels() * shape.depth() * sizeof(float));
    return guarded([&] { spread(shape, low, weight, bias, high, false); });
}

// The same, added to the content of `high`.
extern "C" int deconvseg_conv_transpose_add(const float* low, const float* weight, const float* bias, float* high,
                                            const int64_t* sizes) {
    const Shape shape = shape_of(sizes);
    return guarded([&] { spread(shape, low, weight, bias, high, true); });
}

extern "C" int deconvseg_conv_weight_gradient(const float* low, const float* high, float* gradient, float* total,
                                              const int64_t* sizes) {
    const Shape shape = shape_of(sizes);
    return guarded([&] { weigh(shape, low, high, gradient, total); });
}
