// Row kernels of nonnegative deconvolution with one image channel per group (equations in README.md of this folder).
// A block of kLanes image channels c, each with R source channels, occupies the lanes of vectors. A plane is padded with
// zeros by half a kernel on every side:
//   image-like  (X, S ∗ V):  [H + kh - 1][W + kw - 1][kLanes]
//   source-like (S, N, D):   [H + kh - 1][W + kw - 1][R][kLanes]
//   filters V:               [kd][kh][kw][R][kLanes]
// A kernel makes row y of plane z from `planes`: kd pointers, one per plane z - kd/2 + kz, each to the top left tap of the
// first voxel in the padded row y, or nullptr for a plane outside the volume. `row` is the number of floats from one row
// of these planes to the next. Rows without taps (`out`, `source`, `grad`) are pointers to the first voxel of W, past the
// padding.
//
// Template parameters: R sources per channel and KW taps along a row; 0 means a run-time value in `Shape` (see
// with_sizes).
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "simd.h"

namespace deconvseg::ndc {

#if defined(__AVX2__) && !defined(__AVX512F__)
constexpr int kRegisters = 16;
#else
constexpr int kRegisters = 32;
#endif

// Taps per axis of the filters, and sources per channel.
struct Shape {
    int64_t kd, kh, kw, sources;

    int64_t filter_vectors() const { return kd * kh * kw * sources; }
};

// Call call(R, KW) with compile-time constants: R is 1, 2, 4 or else 0, and KW is 3, 5 or else 0.
template <class Call>
void with_sizes(const Shape& shape, Call call) {
    const auto with_columns = [&](auto sources) {
        if (shape.kw == 3) return call(sources, std::integral_constant<int, 3>{});
        if (shape.kw == 5) return call(sources, std::integral_constant<int, 5>{});
        return call(sources, std::integral_constant<int, 0>{});
    };
    if (shape.sources == 1) return with_columns(std::integral_constant<int, 1>{});
    if (shape.sources == 2) return with_columns(std::integral_constant<int, 2>{});
    if (shape.sources == 4) return with_columns(std::integral_constant<int, 4>{});
    return with_columns(std::integral_constant<int, 0>{});
}

// Call tile(N, x) to cover `width` voxels from x on by tiles of N voxels, then of N/2, ..., 1.
template <int N, class Tile>
DECONVSEG_INLINE void cover(int64_t x, int64_t width, Tile tile) {
    for (; x + N <= width; x += N) tile(std::integral_constant<int, N>{}, x);
    if constexpr (N > 1) cover<N / 2>(x, width, tile);
}

// Load a value that is used several times. Otherwise the compiler reloads it for every use, and loads are the
// bottleneck.
DECONVSEG_INLINE vec load_once(const float* from) {
    vec value = load(from);
#if defined(__x86_64__)
    asm("" : "+v"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#endif
    return value;
}

// S ∗ V (Eq. 1): out[x] = Σ planes[kz][ky][x + kx][r] · V[kz][ky][kx][r], added to `out` if `accumulate`. Makes
// `height` rows, `out_row` floats apart; a tile of the source stays in the L1 cache between them.
template <int R, int KW>
void reconstruct_rows(float* out, int64_t out_row, bool accumulate, const float* const* planes, int64_t row,
                      const float* filters, const Shape& shape, int64_t width, int64_t height) {
    const int64_t sources = R > 0 ? R : shape.sources, kw = KW > 0 ? KW : shape.kw;
    const auto make_tile = [&](auto tile, int64_t x, int64_t y) {
        constexpr int N = decltype(tile)::value;
        float* to = out + y * out_row + x * kLanes;
        vec sum[N];
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) sum[n] = accumulate ? load(to + n * kLanes) : vec{};
        for (int64_t kz = 0; kz < shape.kd; ++kz) {
            if (planes[kz] == nullptr) continue;
            for (int64_t ky = 0; ky < shape.kh; ++ky) {
                const float* from = planes[kz] + (y + ky) * row + x * sources * kLanes;
                const float* taps = filters + (kz * shape.kh + ky) * kw * sources * kLanes;
                for (int64_t r = 0; r < sources; ++r, from += kLanes, taps += kLanes) {
                    if constexpr (KW > 0) {
                        // Each source value is loaded once for the KW sums that use it.
                        vec tap[KW];
#pragma GCC unroll 8
                        for (int kx = 0; kx < KW; ++kx) tap[kx] = load(taps + kx * sources * kLanes);
#pragma GCC unroll 32
                        for (int j = 0; j < N + KW - 1; ++j) {
                            const vec value = load_once(from + j * sources * kLanes);
#pragma GCC unroll 8
                            for (int kx = 0; kx < KW; ++kx)
                                if (j >= kx && j - kx < N) sum[j - kx] += value * tap[kx];
                        }
                    } else {
                        for (int64_t kx = 0; kx < kw; ++kx) {
                            const vec tap = load(taps + kx * sources * kLanes);
#pragma GCC unroll 16
                            for (int n = 0; n < N; ++n) sum[n] += load(from + (n + kx) * sources * kLanes) * tap;
                        }
                    }
                }
            }
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) store(to + n * kLanes, sum[n]);
    };
    cover<kRegisters / 2>(0, width, [&](auto tile, int64_t x) {
        for (int64_t y = 0; y < height; ++y) make_tile(tile, x, y);
    });
}

template <int R, int KW>
void reconstruct_row(float* out, bool accumulate, const float* const* planes, int64_t row, const float* filters,
                     const Shape& shape, int64_t width) {
    reconstruct_rows<R, KW>(out, 0, accumulate, planes, row, filters, shape, width, 1);
}

// Correlate I images with V⁻ for all sources of each voxel: finish(at, sums) receives the offset in floats of a vector
// in a source-like row, and I sums Σ images[i][kz][ky][x + kx] · V[K - 1 - k][r].
template <int R, int KW, int I, class Finish>
DECONVSEG_INLINE void correlate(const float* const* const (&images)[I], int64_t row, const float* filters,
                                const Shape& shape, int64_t width, Finish finish) {
    const int64_t sources = R > 0 ? R : shape.sources, kw = KW > 0 ? KW : shape.kw;
    constexpr int P = R > 0 ? R : 1;  // sources at once
    constexpr int tile_width = std::clamp((kRegisters - P - 4) / (I * P), 1, 8);
    cover<tile_width>(0, width, [&](auto tile, int64_t x) {
        constexpr int N = decltype(tile)::value;
        for (int64_t first = 0; first < sources; first += P) {
            vec sum[N][P][I] = {};
            for (int64_t kz = 0; kz < shape.kd; ++kz) {
                if (images[0][kz] == nullptr) continue;
                for (int64_t ky = 0; ky < shape.kh; ++ky) {
                    const int64_t from = ky * row + x * kLanes;
                    const float* last = filters + (((shape.kd - 1 - kz) * shape.kh + shape.kh - 1 - ky) * kw + kw - 1) *
                                                      sources * kLanes + first * kLanes;
#pragma GCC unroll 8
                    for (int64_t kx = 0; kx < kw; ++kx) {
                        vec tap[P];
#pragma GCC unroll 4
                        for (int p = 0; p < P; ++p) tap[p] = load(last - kx * sources * kLanes + p * kLanes);
#pragma GCC unroll 8
                        for (int n = 0; n < N; ++n)
#pragma GCC unroll 2
                            for (int i = 0; i < I; ++i) {
                                const vec value = load_once(images[i][kz] + from + (n + kx) * kLanes);
#pragma GCC unroll 4
                                for (int p = 0; p < P; ++p) sum[n][p][i] += value * tap[p];
                            }
                    }
                }
            }
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p) finish(((x + n) * sources + first + p) * kLanes, sum[n][p]);
        }
    });
}

// X ∗ V⁻ (Eq. 3): out[x][r] = Σ image[kz][ky][x + kx] · V[K - 1 - k][r], added to `out` if `accumulate`.
template <int R, int KW>
void correlate_row(float* out, bool accumulate, const float* const* image, int64_t row, const float* filters,
                   const Shape& shape, int64_t width) {
    correlate<R, KW, 1>({image}, row, filters, shape, width, [&](int64_t at, const vec (&sum)[1]) {
        store(out + at, accumulate ? load(out + at) + sum[0] : sum[0]);
    });
}

// numerator / (denominator + eps), but 0 if both eps and the denominator are 0.
DECONVSEG_INLINE vec divide(vec numerator, vec denominator, float eps) {
    if (eps > 0) return numerator / (denominator + eps);
    const auto positive = denominator > 0.0f;
    return positive ? numerator / (positive ? denominator : splat(1.0f)) : vec{};
}

// The ratio of Eq. 7 or, if eps is 0, of Eq. 3 with 0/0 = 0.
DECONVSEG_INLINE vec ratio(vec numerator, vec denominator, float eps) {
    return divide(numerator + eps, denominator, eps);
}

// Eq. 7: out[x][r] = source[x][r] · (X ∗ V⁻ + eps) / (reconstruction ∗ V⁻ + eps); `out` may be `source`.
template <int R, int KW>
void update_row(float* out, const float* source, const float* const* image, const float* const* reconstruction,
                int64_t row, const float* filters, const Shape& shape, int64_t width, float eps) {
    correlate<R, KW, 2>({image, reconstruction}, row, filters, shape, width, [&](int64_t at, const vec (&sum)[2]) {
        store(out + at, load(source + at) * ratio(sum[0], sum[1], eps));
    });
}

// Gradient of correlate_row with respect to the filters: gradient[K - 1 - k][r] += Σ_x grads[x][r] · images[kz][ky][x +
// kx], summed over I pairs of a gradient and an image in one loop, because the separate sums may nearly cancel.
// Also computes the gradient of reconstruct_row, its adjoint: pass S as `grads` and the gradient of the result as
// `images`.
template <int R, int KW, int I>
void filter_gradients_row(float* gradient, const float* const (&grads)[I], const float* const* const (&images)[I],
                          int64_t row, const Shape& shape, int64_t width) {
    const int64_t sources = R > 0 ? R : shape.sources, kw = KW > 0 ? KW : shape.kw;
    constexpr int T = KW > 0 ? KW : 1;                                   // taps at once
    constexpr int P = R == 0 ? 1 : R * T + 2 <= kRegisters ? R : R / 2;  // sources at once
    constexpr int U = std::max(1, 9 / (T * P));  // voxels at once with separate sums, to hide the latency of additions
    for (int64_t kz = 0; kz < shape.kd; ++kz) {
        if (images[0][kz] == nullptr) continue;
        for (int64_t ky = 0; ky < shape.kh; ++ky) {
            float* last =
                gradient + (((shape.kd - 1 - kz) * shape.kh + shape.kh - 1 - ky) * kw + kw - 1) * sources * kLanes;
            for (int64_t k = 0; k < kw; k += T)
                for (int64_t first = 0; first < sources; first += P) {
                    const int64_t from = ky * row + k * kLanes;
                    vec sum[U][T][P] = {};
                    const auto add = [&](int u, int64_t x) {
#pragma GCC unroll 2
                        for (int i = 0; i < I; ++i) {
                            vec grad[P];
#pragma GCC unroll 4
                            for (int p = 0; p < P; ++p) grad[p] = load(grads[i] + (x * sources + first + p) * kLanes);
#pragma GCC unroll 8
                            for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
                                for (int p = 0; p < P; ++p)
                                    sum[u][t][p] += grad[p] * load(images[i][kz] + from + (x + t) * kLanes);
                        }
                    };
                    int64_t x = 0;
                    for (; x + U <= width; x += U)
#pragma GCC unroll 9
                        for (int u = 0; u < U; ++u) add(u, x + u);
                    for (; x < width; ++x) add(0, x);
#pragma GCC unroll 8
                    for (int t = 0; t < T; ++t)
#pragma GCC unroll 4
                        for (int p = 0; p < P; ++p) {
                            float* to = last + (first + p - (k + t) * sources) * kLanes;
                            vec total = load(to);
#pragma GCC unroll 9
                            for (int u = 0; u < U; ++u) total += sum[u][t][p];
                            store(to, total);
                        }
                }
        }
    }
}

template <int R, int KW>
void filter_gradient_row(float* gradient, const float* grad, const float* const* image, int64_t row, const Shape& shape,
                         int64_t width) {
    filter_gradients_row<R, KW, 1>(gradient, {grad}, {image}, row, shape, width);
}

}  // namespace deconvseg::ndc
