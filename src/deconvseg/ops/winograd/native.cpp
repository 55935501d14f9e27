// Convolutions with kernels of 3 along each axis (or 1 along one), stride 1 and channels innermost, by Winograd's minimal
// filtering along all axes whose kernel is 3. Exported as C functions.
// A tile has two results along each of these axes, computed from four voxels of the image; a few dozen tiles are
// processed at a time: V of the image, M = V U for each place in a tile, and the results from M.

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

constexpr int64_t kFloatsAtOnce = 1 << 16;  // of V and M per worker: 256 KB

// Tiles of Z x Y x X voxels with kResults results along each axis.
template <int Z, int Y, int X>
struct Tile {
    static constexpr int kResults[3] = {Z == 4 ? 2 : 1, Y == 4 ? 2 : 1, X == 4 ? 2 : 1};
    static constexpr int kPlaces = Z * Y * X;

    const Shape& shape;
    int64_t count[3];
    int64_t step_v, step_m;  // floats from one place of a tile to the next in V and M; not a power of two
    int64_t at_once;

    explicit Tile(const Shape& s) : shape(s) {
        for (int axis = 0; axis < 3; ++axis) count[axis] = (s.size[axis] + kResults[axis] - 1) / kResults[axis];
        at_once = std::clamp<int64_t>(kFloatsAtOnce / (kPlaces * (s.read + s.written)) / 8 * 8, 8, 128);
        step_v = at_once * s.read + kLanes, step_m = at_once * s.written + kLanes;
    }

    int64_t number() const { return shape.batch * count[0] * count[1] * count[2]; }
    int64_t floats_v() const { return kPlaces * step_v; }
    int64_t floats_m() const { return kPlaces * step_m; }

    struct Place {
        int64_t sample, at[3];  // position of the tile's first result
    };
    Place place(int64_t tile) const {
        const int64_t x = tile % count[2], y = tile / count[2] % count[1], z = tile / (count[2] * count[1]) % count[0];
        return {tile / (count[2] * count[1] * count[0]), {z * kResults[0], y * kResults[1], x * kResults[2]}};
    }
    int64_t voxel(int64_t sample, int64_t z, int64_t y, int64_t x) const {
        return ((sample * shape.size[0] + z) * shape.size[1] + y) * shape.size[2] + x;
    }

    // Compute V of one tile; places are `step_v` apart.
    void read(const float* image, int64_t tile, float* v) const {
        const Place p = place(tile);
        const int64_t from[3] = {p.at[0] - (Z == 4), p.at[1] - (Y == 4), p.at[2] - (X == 4)};
        for (int64_t channel = 0; channel < shape.read; channel += kLanes) {
            vec a[kPlaces];
            for (int z = 0; z < Z; ++z) {
                vec* plane = a + z * Y * X;
                for (int y = 0; y < Y; ++y) {
                    const int64_t iz = from[0] + z, iy = from[1] + y;
                    const bool inside = iz >= 0 && iz < shape.size[0] && iy >= 0 && iy < shape.size[1];
                    const float* line = image + (inside ? voxel(p.sample, iz, iy, 0) * shape.read + channel : 0);
#pragma GCC unroll 4
                    for (int x = 0; x < X; ++x) {
                        const int64_t ix = from[2] + x;
                        plane[y * X + x] = inside && ix >= 0 && ix < shape.size[2] ? load(line + ix * shape.read) : vec{};
                    }
                    if (X == 4) transform_image(plane + y * X, 1);
                }
                if (Y == 4)
#pragma GCC unroll 4
                    for (int x = 0; x < X; ++x) transform_image(plane + x, X);
            }
            for (int i = 0; i < Y * X; ++i) {
                vec column[Z];
#pragma GCC unroll 4
                for (int z = 0; z < Z; ++z) column[z] = a[z * Y * X + i];
                if (Z == 4) transform_image(column, 1);
#pragma GCC unroll 4
                for (int z = 0; z < Z; ++z) store(v + (z * Y * X + i) * step_v + channel, column[z]);
            }
        }
    }

    // Compute the results of one tile from its M.
    void write(const float* m, int64_t tile, const float* bias, float* out) const {
        const Place p = place(tile);
        for (int64_t channel = 0; channel < shape.written; channel += kLanes) {
            vec a[kResults[0] * Y * X];
            for (int i = 0; i < Y * X; ++i) {
                vec column[Z];
#pragma GCC unroll 4
                for (int z = 0; z < Z; ++z) column[z] = load(m + (z * Y * X + i) * step_m + channel);
                if (Z == 4) transform_result(column, 1);
#pragma GCC unroll 2
                for (int z = 0; z < kResults[0]; ++z) a[z * Y * X + i] = column[z];
            }
            const vec add = bias == nullptr ? vec{} : load(bias + channel);
            for (int z = 0; z < std::min<int64_t>(kResults[0], shape.size[0] - p.at[0]); ++z) {
                vec* plane = a + z * Y * X;
                if (Y == 4)
#pragma GCC unroll 4
                    for (int x = 0; x < X; ++x) transform_result(plane + x, X);
                for (int y = 0; y < std::min<int64_t>(kResults[1], shape.size[1] - p.at[1]); ++y) {
                    if (X == 4) transform_result(plane + y * X, 1);
                    float* line = out + voxel(p.sample, p.at[0] + z, p.at[1] + y, p.at[2]) * shape.written + channel;
                    for (int x = 0; x < std::min<int64_t>(kResults[2], shape.size[2] - p.at[2]); ++x)
                        store(line + x * shape.written, plane[y * X + x] + add);
                }
            }
        }
    }
};

template <int Z, int Y, int X>
void convolve(const Shape& shape, const float* image, const float* packed, const float* bias, float* out) {
    const Tile<Z, Y, X> tile(shape);
    const int64_t size = packed_size(shape.read, shape.written), number = tile.number(), at_once = tile.at_once;
    const int64_t own = tile.floats_v() + tile.floats_m();
    Buffer buffers(shape.threads * own);
    run_team(shape.threads, [&](const Worker& worker) {
        float *v = buffers + worker.index * own, *m = v + tile.floats_v();
        worker.share((number + at_once - 1) / at_once, [&](int64_t task) {
            const int64_t first = task * at_once, tiles = std::min(at_once, number - first);
            for (int64_t i = 0; i < tiles; ++i) tile.read(image, first + i, v + i * shape.read);
            for (int place = 0; place < tile.kPlaces; ++place) {
                float* to = m + place * tile.step_m;
                multiply(Left{v + place * tile.step_v, shape.read, 1, shape.read}, tiles, packed + place * size,
                         shape.written, [&](int64_t row, int64_t column, vec sums) {
                             store(to + row * shape.written + column, sums);
                         });
            }
            for (int64_t i = 0; i < tiles; ++i) tile.write(m + i * shape.written, first + i, bias, out);
        });
    });
}

// Compute U, packed for products: for each place, the weights (written, read, kernel) with G applied along each axis of
// 3.
void pack(const Shape& shape, const float* weight, float* packed) {
    const int64_t size = packed_size(shape.read, shape.written);
    const int64_t taps[3] = {shape.kernel[0], shape.kernel[1], shape.kernel[2]};
    int64_t places[3];
    for (int axis = 0; axis < 3; ++axis) places[axis] = taps[axis] == 3 ? 4 : 1;
    for (int64_t place = 0; place < places[0] * places[1] * places[2]; ++place) {
        const int64_t at[3] = {place / (places[1] * places[2]), place / places[2] % places[1], place % places[2]};
        const double* g[3];
        for (int axis = 0; axis < 3; ++axis) g[axis] = taps[axis] == 3 ? kG[at[axis]] : kOne[0];
        for (int64_t column = 0; column < shape.written; column += kTileColumns)
            pack_panel(packed + place * size + column * shape.read, shape.read, shape.written, column,
                       [&](int64_t k, int64_t n) {
                           const float* w = weight + (n * shape.read + k) * taps[0] * taps[1] * taps[2];
                           return static_cast<float>(transformed(w, taps, g));
                       });
    }
}

Shape shape_of(const int64_t* sizes) { return shape_from<Shape, 10>(sizes); }

}  // namespace

// Images are (batch, depth, height, width, channels); sizes are the fields of Shape in order. Kernels are (3, 3, 3), or
// 1 along one axis; channels are multiples of the lanes. A bias may be null. Each function returns 0, or 1 if memory
// ran out.

// Packed weights have packed_size() floats for each place of a tile.
extern "C" int deconvseg_winograd_pack(const float* weight, float* packed, const int64_t* sizes) {
    return guarded([&] { pack(shape_of(sizes), weight, packed); });
}

extern "C" int deconvseg_winograd_conv(const float* image, const float* packed, const float* bias, float* out,
                                       const int64_t* sizes) {
    const Shape shape = shape_of(sizes);
    prefer_large_pages(out, shape.batch * shape.written * shape.size[0] * shape.size[1] * shape.size[2] * sizeof(float));
    return guarded([&] {
        const auto run = shape.kernel[0] == 1   ? convolve<1, 4, 4>
                         : shape.kernel[1] == 1 ? convolve<4, 1, 4>
                         : shape.kernel[2] == 1 ? convolve<4, 4, 1>
                                                : convolve<4, 4, 4>;
        run(shape, image, packed, bias, out);
    });
}
