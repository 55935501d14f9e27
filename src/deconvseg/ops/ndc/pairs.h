// Row kernels of nonnegative deconvolution in bfloat16, with the blocks of kernels.h and products of pairs:
//   image-like  (X, S ∗ V):  [H + kh - 1][W + kw - 1][kLanes][2], the voxel and its right neighbour
//   source-like (S, N, D):   [H + kh - 1][W + kw - 1][R / 2][kLanes][2], two sources of a channel; R is even
//   filters V:               [kd][kh][kw][R / 2][kLanes][2], two sources
//   adjoint filters V⁻:      [kd][kh][(kw + 1) / 2][R][kLanes][2], two taps along a row; the partner of the last tap is the
//                            last one of the next row, if joins_rows, or else 0
// S ∗ V is a sum over the sources, N and D are sums over taps. Sums and what finish() receives are float32.
#pragma once

#include "../native/bfloat16.h"
#include "kernels.h"

namespace deconvseg::ndc {

// Pairs of taps along a row of V⁻.
inline int64_t tap_pairs(const Shape& shape) { return (shape.kw + 1) / 2; }

// Whether the last taps of row `ky` and of the next one are a pair, so that three rows of three taps take five products
// instead of six. A kernel of one column has none: its rows have no stored left neighbour.
DECONVSEG_INLINE bool joins_rows(int64_t kh, int64_t kw, int64_t ky) { return kw > 1 && ky % 2 == 0 && ky + 1 < kh; }

// Pack a block's filters, given by value(tap, r, lane), in both orders.
template <class Value>
void pack_pairs(bfloat16* filters, bfloat16* adjoint, const Shape& shape, Value value) {
    const int64_t taps = shape.kd * shape.kh * shape.kw, sources = shape.sources, rows = shape.kd * shape.kh;
    for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t r = 0; r < sources; ++r)
            for (int64_t lane = 0; lane < kLanes; ++lane)
                filters[((tap * sources / 2 + r / 2) * kLanes + lane) * 2 + r % 2] = rounded(value(tap, r, lane));
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t kx = 0; kx < 2 * tap_pairs(shape); ++kx)
            for (int64_t r = 0; r < sources; ++r)
                for (int64_t lane = 0; lane < kLanes; ++lane) {
                    const bool joined = kx == shape.kw && joins_rows(shape.kh, shape.kw, row % shape.kh);
                    const int64_t at = row * shape.kw + (joined ? 2 * shape.kw - 1 : kx);
                    const float tap = kx < shape.kw || joined ? value(taps - 1 - at, r, lane) : 0.0f;
                    adjoint[(((row * tap_pairs(shape) + kx / 2) * sources + r) * kLanes + lane) * 2 + kx % 2] =
                        rounded(tap);
                }
}

// Store N voxels of an image-like row from voxel x on, of which voxel x - 1 has been stored before.
template <int N>
DECONVSEG_INLINE void store_neighbours(bfloat16* row, int64_t x, const vec (&values)[N], bool border) {
    bfloat16* to = row + x * 2 * kLanes;
    if (x > 0 || border)  // complete the pair of the voxel on the left
        _mm512_mask_storeu_epi16(to - 2 * kLanes, 0xaaaaaaaa, (__m512i)pair_up(vec{}, values[0]));
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store_pairs(to + n * 2 * kLanes, pair_up(values[n], n + 1 < N ? values[n + 1] : vec{}));
}

// S ∗ V (Eq. 1) of `height` rows: finish(x, y, sums) receives N voxels of row y from x on.
template <int R, int KW, class Finish>
void reconstruct_pairs(const bfloat16* const* planes, int64_t row, const bfloat16* filters, const Shape& shape,
                       int64_t width, int64_t height, Finish finish) {
    constexpr int64_t kPixel = R * kLanes;
    const int64_t kw = KW > 0 ? KW : shape.kw;
    const auto make_tile = [&](auto tile, int64_t x, int64_t y) {
        constexpr int N = decltype(tile)::value;
        vec sum[N] = {};
        for (int64_t kz = 0; kz < shape.kd; ++kz) {
            if (planes[kz] == nullptr) continue;
            for (int64_t ky = 0; ky < shape.kh; ++ky) {
                const bfloat16* from = planes[kz] + (y + ky) * row + x * kPixel;
                const bfloat16* taps = filters + (kz * shape.kh + ky) * kw * kPixel;
                for (int p = 0; p < R / 2; ++p, from += 2 * kLanes, taps += 2 * kLanes) {
                    if constexpr (KW > 0) {
                        // Each pair of source values is loaded once for the KW sums that use it.
                        pairs tap[KW];
#pragma GCC unroll 8
                        for (int kx = 0; kx < KW; ++kx) tap[kx] = load_pairs(taps + kx * kPixel);
#pragma GCC unroll 32
                        for (int j = 0; j < N + KW - 1; ++j) {
                            const pairs value = load_pairs_once(from + j * kPixel);
#pragma GCC unroll 8
                            for (int kx = 0; kx < KW; ++kx)
                                if (j >= kx && j - kx < N) sum[j - kx] = add_products(sum[j - kx], value, tap[kx]);
                        }
                    } else {
                        for (int64_t kx = 0; kx < kw; ++kx) {
                            const pairs tap = load_pairs(taps + kx * kPixel);
#pragma GCC unroll 16
                            for (int n = 0; n < N; ++n)
                                sum[n] = add_products(sum[n], load_pairs(from + (n + kx) * kPixel), tap);
                        }
                    }
                }
            }
        }
        finish(x, y, sum);
    };
    cover<kRegisters / 2>(0, width, [&](auto tile, int64_t x) {
        for (int64_t y = 0; y < height; ++y) make_tile(tile, x, y);
    });
}

// correlate_pairs for kernels of KH rows, or of any number if KH is 0. Known rows are unrolled.
template <int R, int KW, int KH, int I, class Finish>
DECONVSEG_INLINE void correlate_pairs_of_rows(const bfloat16* const* const (&images)[I], int64_t row,
                                              const bfloat16* adjoint, const Shape& shape, int64_t width, Finish finish) {
    constexpr int64_t kPixel = 2 * kLanes;
    constexpr int tile_width = std::clamp((kRegisters - R - 4) / (I * R), 1, 8);
    const int64_t kw = KW > 0 ? KW : shape.kw, kh = KH > 0 ? KH : shape.kh, count = (kw + 1) / 2;
    cover<tile_width>(0, width, [&](auto tile, int64_t x) {
        constexpr int N = decltype(tile)::value;
        vec sum[N][R][I] = {};
        // Add the products of a pair of taps with the pairs of values value(n, i).
        const auto add = [&](const bfloat16* taps, auto value) __attribute__((always_inline)) {
            pairs tap[R];
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) tap[r] = load_pairs(taps + r * kPixel);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
                for (int i = 0; i < I; ++i) {
                    const pairs of = value(n, i);
#pragma GCC unroll 4
                    for (int r = 0; r < R; ++r) sum[n][r][i] = add_products(sum[n][r][i], of, tap[r]);
                }
        };
        for (int64_t kz = 0; kz < shape.kd; ++kz) {
            if (images[0][kz] == nullptr) continue;
#pragma GCC unroll 4
            for (int64_t ky = 0; ky < kh; ++ky) {
                const int64_t from = ky * row + x * kPixel;
                const bfloat16* taps = adjoint + (kz * kh + ky) * count * R * kPixel;
                const auto values = [&](int64_t kx) {
                    return [=](int n, int i) { return load_pairs_once(images[i][kz] + from + (n + kx) * kPixel); };
                };
#pragma GCC unroll 4
                for (int64_t k = 0; k < count - 1; ++k) add(taps + k * R * kPixel, values(2 * k));
                const bfloat16* last = taps + (count - 1) * R * kPixel;
                if (joins_rows(kh, kw, ky))
                    add(last, [&](int n, int i) {
                        const bfloat16* at = images[i][kz] + from + (n + kw - 1) * kPixel;
                        return with_second_of(load_pairs(at), at + row - kPixel);
                    });
                else if (ky == 0 || !joins_rows(kh, kw, ky - 1))
                    add(last, values(kw - 1));
            }
        }
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) finish(x + n, sum[n]);
    });
}

// Correlate I images with V⁻ for all sources of each voxel: finish(x, sums) receives sums[r][i] of a voxel.
template <int R, int KW, int I, class Finish>
DECONVSEG_INLINE void correlate_pairs(const bfloat16* const* const (&images)[I], int64_t row, const bfloat16* adjoint,
                                      const Shape& shape, int64_t width, Finish finish) {
    if (KW == 3 && shape.kh == 3)
        correlate_pairs_of_rows<R, KW, 3>(images, row, adjoint, shape, width, finish);
    else
        correlate_pairs_of_rows<R, KW, 0>(images, row, adjoint, shape, width, finish);
}

// Eq. 7 in place: source[x][r] *= (X ∗ V⁻ + eps) / (reconstruction ∗ V⁻ + eps).
template <int R, int KW>
void update_row(bfloat16* source, const bfloat16* const* image, const bfloat16* const* reconstruction, int64_t row,
                const bfloat16* adjoint, const Shape& shape, int64_t width, float eps) {
    correlate_pairs<R, KW, 2>({image, reconstruction}, row, adjoint, shape, width,
                              [&](int64_t x, const vec (&sum)[R][2]) __attribute__((always_inline)) {
#pragma GCC unroll 2
                                  for (int p = 0; p < R / 2; ++p) {
                                      bfloat16* at = source + (x * R + 2 * p) * kLanes;
                                      const pairs old = load_pairs(at);
                                      const auto &first = sum[2 * p], &second = sum[2 * p + 1];
                                      store_pairs(at, pair_up(first_of(old) * ratio(first[0], first[1], eps),
                                                              second_of(old) * ratio(second[0], second[1], eps)));
                                  }
                              });
}

}  // namespace deconvseg::ndc
