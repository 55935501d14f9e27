// Upsampling, concatenation and a pointwise convolution as one product in bfloat16; exported as a C function.
//
// For kernel = stride, each coarse voxel meets `taps` fine ones. The row of a fine voxel's `skip` and of its coarse
// voxel's `x` is multiplied with the weights of its tap, and the sum, in float32, is rounded once.

#include <algorithm>

#include "interface.h"
#include "matmul.h"
#include "parallel.h"

using namespace deconvseg;

namespace {

struct Shape {
    int64_t batch, of_skip, of_x, written, low[3], kernel[3], threads;

    int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
    int64_t depth() const { return of_skip + of_x; }
    int64_t low_voxels() const { return batch * low[0] * low[1] * low[2]; }
    // The fine voxel of a coarse one and the first tap, and the distance from it to that of another tap.
    int64_t fine(int64_t voxel) const {
        const int64_t x = voxel % low[2], y = voxel / low[2] % low[1], plane = voxel / (low[2] * low[1]);
        return ((plane * kernel[0] * low[1] + y) * kernel[1] * low[2] + x) * kernel[2];
    }
    int64_t step(int64_t tap) const {
        const int64_t kx = tap % kernel[2], ky = tap / kernel[2] % kernel[1], kz = tap / (kernel[2] * kernel[1]);
        return (kz * low[1] * kernel[1] + ky) * low[2] * kernel[2] + kx;
    }
};

// Images and weights: of_skip is (written, skip channels), of_x is (x channels, written, taps).
struct Join {
    const bfloat16 *skip, *x;
    const float *of_skip, *of_x, *bias;
    bfloat16* out;
};

// Copy whole vectors; a call for each row would take longer than the copy.
DECONVSEG_INLINE void copy(const bfloat16* from, int64_t count, bfloat16* to) {
    for (int64_t i = 0; i < count; i += kLanes) std::memcpy(to + i, from + i, kLanes * sizeof(bfloat16));
}

constexpr int64_t kRows = 64;  // coarse voxels per task

void join(const Shape& shape, const Join& given) {
    const int64_t depth = shape.depth(), taps = shape.taps(), columns = shape.written, voxels = shape.low_voxels();
    const int64_t size = packed_size<bfloat16>(depth, columns), panels = (columns + kTileColumns - 1) / kTileColumns;
    BufferOf<bfloat16> packed(taps * size), gathered(shape.threads * kRows * depth);
    run_team(shape.threads, [&](const Worker& worker) {
        worker.share(taps * panels, [&](int64_t task) {
            const int64_t tap = task / panels, first = task % panels * kTileColumns;
            pack_panel(packed + tap * size + packed_size<bfloat16>(depth, first), depth, columns, first,
                       [&](int64_t k, int64_t n) {
                           return k < shape.of_skip ? given.of_skip[n * shape.of_skip + k]
                                                    : given.of_x[((k - shape.of_skip) * columns + n) * taps + tap];
                       });
        });
        worker.meet();
        bfloat16* rows = gathered + worker.index * kRows * depth;
        worker.share((voxels + kRows - 1) / kRows, [&](int64_t task) {
            const int64_t first = task * kRows, count = std::min(kRows, voxels - first);
            int64_t fine[kRows];
            for (int64_t row = 0; row < count; ++row) {
                fine[row] = shape.fine(first + row);
                copy(given.x + (first + row) * shape.of_x, shape.of_x, rows + row * depth + shape.of_skip);
            }
            for (int64_t tap = 0; tap < taps; ++tap) {
                const int64_t step = shape.step(tap);
                for (int64_t row = 0; row < count; ++row)
                    copy(given.skip + (fine[row] + step) * shape.of_skip, shape.of_skip, rows + row * depth);
                multiply(LeftOf<bfloat16>{rows, depth, 1, depth}, count, packed + tap * size, columns,
                         [&](int64_t row, int64_t column, auto& sums) {
                             if (given.bias != nullptr)
                                 for (vec& sum : sums) sum += load(given.bias + column + (&sum - sums) * kLanes);
                             store_all(given.out + (fine[row] + step) * columns + column, sums);
                         });
            }
        });
    });
}

}  // namespace

// Images are (batch, depth, height, width, channels) in bfloat16, weights and the bias, which may be null, float32; sizes
// are the fields of Shape in order. Channels are multiples of the lanes. Returns 0, or 1 if memory ran out.
extern "C" int deconvseg_join_bfloat16(const bfloat16* skip, const bfloat16* x, const float* of_skip, const float* of_x,
                                       const float* bias, bfloat16* out, const int64_t* sizes) {
    const auto shape = shape_from<Shape, 11>(sizes);
    prefer_large_pages(out, shape.low_voxels() * shape.taps() * shape.written * sizeof(bfloat16));
    return guarded([&] { join(shape, Join{skip, x, of_skip, of_x, bias, out}); });
}
