// Convolutions as in native.cpp, with products of bfloat16 and transforms in float32. Exported as C functions.
// Minimal filtering runs along two axes only: along three, the rounding of V and U to bfloat16 would be amplified too
// much. A third axis of 3 taps, called the depth, is part of the sum: M = V(z - 1) U(0) + V(z) U(1) + V(z + 1) U(2).
// A task computes some tiles of 2 x 2 results in some neighbouring planes; a panel of output channels at a time.

#include <algorithm>

#include "filtering.h"
#include "interface.h"
#include "matmul.h"
#include "parallel.h"

using namespace deconvseg;

namespace {

struct Shape {
    int64_t batch, read, written, size[3], kernel[3], threads;
};

constexpr int kPlaces = 16;
constexpr int64_t kRows = 64;                 // tiles per task, at most
constexpr int64_t kBytesAtOnce = 640 * 1024;  // of V and M per worker

// The axes of the tiles, and the axis of the depth: one without filtering, or the first.
struct Axes {
    int depth, rows, columns;
    explicit Axes(const Shape& shape) {
        depth = shape.kernel[1] == 1 ? 1 : shape.kernel[2] == 1 ? 2 : 0;
        rows = depth == 0 ? 1 : 0;
        columns = depth == 2 ? 1 : 2;
    }
};

struct Work {
    const Shape& shape;
    const Axes axes;
    int64_t taps, halo, depth, size_y, size_x, step_z, step_y, step_x;  // steps in voxels
    int64_t across, tiles, at_once, planes;                             // tiles per row, per plane, per task; planes
    int64_t groups, slabs, rows, step_v, step_m;

    explicit Work(const Shape& s) : shape(s), axes(s) {
        const int64_t steps[3] = {s.size[1] * s.size[2], s.size[2], 1};
        taps = s.kernel[axes.depth], halo = taps / 2, depth = s.size[axes.depth];
        size_y = s.size[axes.rows], size_x = s.size[axes.columns];
        step_z = steps[axes.depth], step_y = steps[axes.rows], step_x = steps[axes.columns];
        across = (size_x + 1) / 2, tiles = (size_y + 1) / 2 * across;
        at_once = std::min(tiles, taps == 1 ? kRows : kRows / 8);
        planes = std::min(depth, std::max<int64_t>(1, kRows / at_once));
        while (planes > 2 && bytes() > kBytesAtOnce) --planes;
        groups = (tiles + at_once - 1) / at_once, slabs = (depth + planes - 1) / planes;
        rows = planes * at_once;
        // Not powers of two, because these lines would share a few sets of the caches.
        step_v = (planes + 2 * halo) * at_once * s.read + 2 * kLanes, step_m = rows * kTileColumns + kLanes;
    }

    int64_t bytes() const {
        const int64_t v = (planes + 2 * halo) * at_once * shape.read * sizeof(bfloat16);
        return kPlaces * (v + planes * at_once * kTileColumns * int64_t{sizeof(float)});
    }
    int64_t tasks() const { return shape.batch * groups * slabs; }
    int64_t voxel(int64_t sample, int64_t z, int64_t y, int64_t x) const {
        return sample * shape.size[0] * shape.size[1] * shape.size[2] + z * step_z + y * step_y + x * step_x;
    }

    // Compute V of one tile of a plane; places are `step_v` apart. Inside, the four voxels of each row are in the image.
    template <bool Inside>
    void read_tile(const bfloat16* image, int64_t sample, int64_t z, int64_t y0, int64_t x0, bfloat16* v) const {
        const int64_t step = step_x * shape.read;
        for (int64_t channel = 0; channel < shape.read; channel += kLanes) {
            vec a[kPlaces];
#pragma GCC unroll 4
            for (int y = 0; y < 4; ++y) {
                const bool inside = Inside || (y0 + y >= 0 && y0 + y < size_y && z >= 0 && z < depth);
                const bfloat16* line = image + (inside ? voxel(sample, z, y0 + y, x0) * shape.read + channel : 0);
#pragma GCC unroll 4
                for (int x = 0; x < 4; ++x) {
                    const bool seen = Inside || (inside && x0 + x >= 0 && x0 + x < size_x);
                    a[y * 4 + x] = seen ? load(line + x * step) : vec{};
                }
                transform_image(a + y * 4, 1);
            }
#pragma GCC unroll 4
            for (int x = 0; x < 4; ++x) {
                transform_image(a + x, 4);
#pragma GCC unroll 4
                for (int y = 0; y < 4; ++y) store(v + (y * 4 + x) * step_v + channel, a[y * 4 + x]);
            }
        }
    }

    void read(const bfloat16* image, int64_t sample, int64_t z, int64_t tile, bfloat16* v) const {
        const int64_t y0 = tile / across * 2 - 1, x0 = tile % across * 2 - 1;
        if (z >= 0 && z < depth && y0 >= 0 && y0 + 4 <= size_y && x0 >= 0 && x0 + 4 <= size_x)
            read_tile<true>(image, sample, z, y0, x0, v);
        else
            read_tile<false>(image, sample, z, y0, x0, v);
    }

    // Compute the results of one tile, in the channels of a panel, from its M; places are `step_m` apart.
    void write(const float* m, int64_t sample, int64_t z, int64_t tile, int64_t column, const float* bias,
               bfloat16* out) const {
        const int64_t y0 = tile / across * 2, x0 = tile % across * 2;
        for (int64_t c = column; c < std::min(shape.written, column + kTileColumns); c += kLanes, m += kLanes) {
            vec a[8];
#pragma GCC unroll 4
            for (int x = 0; x < 4; ++x) {
                vec values[4];
#pragma GCC unroll 4
                for (int y = 0; y < 4; ++y) values[y] = load(m + (y * 4 + x) * step_m);
                transform_result(values, 1);
                a[x] = values[0], a[4 + x] = values[1];
            }
            const vec add = bias == nullptr ? vec{} : load(bias + c);
            for (int y = 0; y < std::min<int64_t>(2, size_y - y0); ++y) {
                transform_result(a + y * 4, 1);
                bfloat16* line = out + voxel(sample, z, y0 + y, x0) * shape.written + c;
                for (int x = 0; x < std::min<int64_t>(2, size_x - x0); ++x)
                    store(line + x * step_x * shape.written, a[y * 4 + x] + add);
            }
        }
    }
};

void convolve(const Shape& shape, const bfloat16* image, const bfloat16* packed, const float* bias, bfloat16* out) {
    const Work work(shape);
    const int64_t depth = work.taps * shape.read, size = packed_size<bfloat16>(depth, shape.written);
    const int64_t panel = packed_size<bfloat16>(depth, kTileColumns);
    const int64_t floats = kPlaces * work.step_m, halves = kPlaces * work.step_v;
    Buffer products(shape.threads * floats);
    BufferOf<bfloat16> transforms(shape.threads * halves);
    run_team(shape.threads, [&](const Worker& worker) {
        bfloat16* v = transforms + worker.index * halves;
        float* m = products + worker.index * floats;
        worker.share(work.tasks(), [&](int64_t task) {
            const int64_t z0 = task % work.slabs * work.planes, group = task / work.slabs % work.groups;
            const int64_t sample = task / (work.slabs * work.groups), first = group * work.at_once;
            const int64_t tiles = std::min(work.at_once, work.tiles - first);
            const int64_t planes = std::min(work.planes, work.depth - z0);
            for (int64_t z = 0; z < planes + 2 * work.halo; ++z)
                for (int64_t i = 0; i < tiles; ++i)
                    work.read(image, sample, z0 + z - work.halo, first + i, v + (z * tiles + i) * shape.read);
            for (int64_t column = 0; column < shape.written; column += kTileColumns) {
                for (int place = 0; place < kPlaces; ++place) {
                    const LeftOf<bfloat16> left{v + place * work.step_v, shape.read,  1,
                                                shape.read,              work.taps, tiles * shape.read};
                    float* to = m + place * work.step_m - column;
                    multiply_column(left, planes * tiles, packed + place * size + column / kTileColumns * panel,
                                    shape.written, column, [&](int64_t row, int64_t c, const auto& sums) {
                                        for (const vec& sum : sums)
                                            store(to + row * kTileColumns + c + (&sum - sums) * kLanes, sum);
                                    });
                }
                for (int64_t row = 0; row < planes * tiles; ++row)
                    work.write(m + row * kTileColumns, sample, z0 + row / tiles, first + row % tiles, column, bias, out);
            }
        });
    });
}

// Compute U, packed for products: for each place a matrix of (taps of the depth x read) rows.
void pack(const Shape& shape, const float* weight, bfloat16* packed) {
    const Axes axes(shape);
    const int64_t taps = shape.kernel[axes.depth], depth = taps * shape.read, volume = taps * 9;
    const int64_t size = packed_size<bfloat16>(depth, shape.written);
    constexpr double kChosen[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
    for (int place = 0; place < kPlaces; ++place) {
        const double* g[3];
        g[axes.rows] = kG[place / 4], g[axes.columns] = kG[place % 4];
        for (int64_t column = 0; column < shape.written; column += kTileColumns)
            pack_panel(packed + place * size + packed_size<bfloat16>(depth, column), depth, shape.written, column,
                       [&](int64_t k, int64_t n) {
                           g[axes.depth] = kChosen[k / shape.read];
                           const float* w = weight + (n * shape.read + k % shape.read) * volume;
                           return static_cast<float>(transformed(w, shape.kernel, g));
                       });
    }
}

Shape shape_of(const int64_t* sizes) { return shape_from<Shape, 10>(sizes); }

}  // namespace

// Images are (batch, depth, height, width, channels) in bfloat16, weights and biases float32; sizes are the fields of
// Shape in order. Kernels are (3, 3, 3), or 1 along one axis; channels are multiples of the lanes. A bias may be null.
// Each function returns 0, or 1 if memory ran out.

extern "C" int deconvseg_winograd_pack_bfloat16(const float* weight, bfloat16* packed, const int64_t* sizes) {
    return guarded([&] { pack(shape_of(sizes), weight, packed); });
}

extern "C" int deconvseg_winograd_conv_bfloat16(const bfloat16* image, const bfloat16* packed, const float* bias,
                                                bfloat16* out, const int64_t* sizes) {
    const Shape shape = shape_of(sizes);
    const int64_t voxels = shape.batch * shape.size[0] * shape.size[1] * shape.size[2];
    prefer_large_pages(out, voxels * shape.written * sizeof(bfloat16));
    return guarded([&] { convolve(shape, image, packed, bias, out); });
}
