// The update and its gradients for any groups, on whole padded channels; neighbours are at fixed distances in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"
#include "layout.h"
#include "parallel.h"

namespace deconvseg::ndc {

struct Grouped {
    int64_t batch, channels, sources, size[3], kernel[3], groups;

    int64_t channels_per_group() const { return channels / groups; }
    int64_t sources_per_group() const { return sources / groups; }
};

// A channel of D x H x W voxels, padded by half a kernel on every side and by one tile at the end.
class Grid {
  public:
    static constexpr int kTile = kRegisters / 4;  // vectors at once: their two sums leave registers for the operands

    explicit Grid(const Grouped& problem)
        : size_(problem.size),
          row_(size_[2] + 2 * (problem.kernel[2] / 2)),
          plane_((size_[1] + 2 * (problem.kernel[1] / 2)) * row_),
          volume_((size_[0] + 2 * (problem.kernel[0] / 2)) * plane_),
          begin_(problem.kernel[0] / 2 * plane_ + problem.kernel[1] / 2 * row_ + problem.kernel[2] / 2),
          inside_(floats(), 0.0f) {
        for (int64_t z = 0; z < problem.kernel[0]; ++z)
            for (int64_t y = 0; y < problem.kernel[1]; ++y)
                for (int64_t x = 0; x < problem.kernel[2]; ++x)
                    distances_.push_back(z * plane_ + y * row_ + x - begin_);
        for_rows([&](int64_t at, int64_t, int64_t) { std::fill_n(inside_.begin() + at, size_[2], 1.0f); });
    }

    int64_t floats() const { return (volume_ + kTile * kLanes + kLanes - 1) / kLanes * kLanes; }
    int64_t begin() const { return begin_; }
    int64_t end() const { return volume_ - begin_; }
    int64_t taps() const { return static_cast<int64_t>(distances_.size()); }
    int64_t distance(int64_t tap) const { return distances_[tap]; }

    // Store a vector, but zeros in the padding.
    void store_inside(float* to, int64_t at, vec value) const {
        store(to + at, load(inside_.data() + at) > 0.0f ? value : vec{});
    }

    void copy_in(float* to, const Tensor<const float>& from, int64_t sample, int64_t channel) const {
        for_rows([&](int64_t at, int64_t z, int64_t y) {
            const float* row = from.at(sample, channel, z, y, 0);
            for (int64_t x = 0; x < size_[2]; ++x) to[at + x] = row[x * from.strides[4]];
        });
    }

    void copy_out(const Tensor<float>& to, const float* from, int64_t sample, int64_t channel) const {
        for_rows([&](int64_t at, int64_t z, int64_t y) {
            float* row = to.at(sample, channel, z, y, 0);
            for (int64_t x = 0; x < size_[2]; ++x) row[x * to.strides[4]] = from[at + x];
        });
    }

  private:
    template <class Visit>
    void for_rows(Visit visit) const {
        for (int64_t z = 0; z < size_[0]; ++z)
            for (int64_t y = 0; y < size_[1]; ++y) visit(begin_ + z * plane_ + y * row_, z, y);
    }

    const int64_t* size_;
    int64_t row_, plane_, volume_, begin_;
    std::vector<int64_t> distances_;
    std::vector<float> inside_;
};

// Sum over `count` channels of I images and over the taps: finish(at, sums) receives I sums for every vector of voxels.
// The filter of channel j is at weights + j * weight_step; `direction` is 1 for S ∗ V and -1 for X ∗ V⁻.
template <int I, class Finish>
void gather(const Grid& grid, const float* const (&images)[I], int64_t count, const float* weights, int64_t weight_step,
            int direction, Finish finish) {
    constexpr int T = Grid::kTile;
    for (int64_t first = grid.begin(); first < grid.end(); first += T * kLanes) {
        vec total[T][I] = {};
        for (int64_t j = 0; j < count; ++j) {
            vec sum[T][I] = {};  // partial sums reduce rounding errors
            for (int64_t tap = 0; tap < grid.taps(); ++tap) {
                const vec weight = splat(weights[j * weight_step + tap]);
                const int64_t from = j * grid.floats() + first + direction * grid.distance(tap);
#pragma GCC unroll 8
                for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
                    for (int i = 0; i < I; ++i) sum[t][i] += load(images[i] + from + t * kLanes) * weight;
            }
#pragma GCC unroll 8
            for (int t = 0; t < T; ++t)
#pragma GCC unroll 2
                for (int i = 0; i < I; ++i) total[t][i] += sum[t][i];
        }
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) finish(first + t * kLanes, total[t]);
    }
}

constexpr int kTapsAtOnce = 4;

// results[k] = Σ a · b over the voxels and over three pairs; b is read distances[k] before a.
inline void dot(const Grid& grid, const float* const (&a)[3], const float* const (&b)[3],
                const int64_t (&distances)[kTapsAtOnce], float (&results)[kTapsAtOnce]) {
    constexpr int64_t piece = 64 * kLanes;  // partial sums reduce rounding errors
    vec total[kTapsAtOnce] = {};
    for (int64_t first = grid.begin(); first < grid.end(); first += piece) {
        vec sum[kTapsAtOnce] = {};
        for (int64_t at = first; at < std::min(first + piece, grid.end()); at += kLanes)
#pragma GCC unroll 3
            for (int i = 0; i < 3; ++i) {
                const vec value = load(a[i] + at);
#pragma GCC unroll 4
                for (int k = 0; k < kTapsAtOnce; ++k) sum[k] += value * load(b[i] + at - distances[k]);
            }
#pragma GCC unroll 4
        for (int k = 0; k < kTapsAtOnce; ++k) total[k] += sum[k];
    }
    for (int k = 0; k < kTapsAtOnce; ++k) results[k] = sum_in_order(total[k]);
}

// Base of both passes: the padded channels of one sample at a time, and the filters (C, E/G, taps).
class Plain {
  public:
    Plain(const Grouped& problem, const float* filters, int64_t channels_held, int64_t threads)
        : problem_(problem), grid_(problem), filters_(filters), held_(channels_held + threads),
          memory_(held_ * grid_.floats()), next_(memory_) {}

  protected:
    float* take(int64_t channels) {
        float* taken = next_;
        next_ += channels * grid_.floats();
        return taken;
    }
    void clear(const Worker& worker) const {
        worker.share(held_, [&](int64_t i) { std::fill_n(channel(memory_, i), grid_.floats(), 0.0f); });
        worker.meet();
    }
    float* channel(float* first, int64_t index) const { return first + index * grid_.floats(); }

    // S ∗ V for one image channel.
    template <class Finish>
    void reconstruct(float* source, int64_t c, Finish finish) const {
        const int64_t per_group = problem_.sources_per_group(), group = c / problem_.channels_per_group();
        gather<1>(grid_, {channel(source, group * per_group)}, per_group, filters_ + c * per_group * grid_.taps(),
                  grid_.taps(), 1, [&](int64_t at, const vec(&sum)[1]) { finish(at, sum[0]); });
    }

    // I images ∗ V⁻ for one source channel.
    template <int I, class Finish>
    void correlate_images(float* const (&images)[I], int64_t e, Finish finish) const {
        const int64_t per_group = problem_.sources_per_group(), first = e / per_group * problem_.channels_per_group();
        const float* from[I];
        for (int i = 0; i < I; ++i) from[i] = channel(images[i], first);
        gather<I>(grid_, from, problem_.channels_per_group(),
                  filters_ + (first * per_group + e % per_group) * grid_.taps(), per_group * grid_.taps(), -1, finish);
    }

    const Grouped& problem_;
    Grid grid_;

  private:
    const float* filters_;
    int64_t held_;
    Buffer memory_;
    float* next_;
};

class PlainUpdate : Plain {
  public:
    PlainUpdate(const Grouped& problem, const float* filters, int64_t threads)
        : Plain(problem, filters, 2 * problem.channels + problem.sources, threads),
          image_(take(problem.channels)), source_(take(problem.sources)), explained_(take(problem.channels)),
          scratch_(take(threads)) {}

    void run(const Worker& worker, const Tensor<const float>& x, const Tensor<const float>& source,
             const Tensor<float>& out, float eps) const {
        clear(worker);
        float* result = channel(scratch_, worker.index);
        for (int64_t b = 0; b < problem_.batch; ++b) {
            worker.share(problem_.channels, [&](int64_t c) { grid_.copy_in(channel(image_, c), x, b, c); });
            worker.share(problem_.sources, [&](int64_t e) { grid_.copy_in(channel(source_, e), source, b, e); });
            worker.meet();
            worker.share(problem_.channels, [&](int64_t c) {
                float* to = channel(explained_, c);
                reconstruct(source_, c, [&](int64_t at, vec sum) { grid_.store_inside(to, at, sum); });
            });
            worker.meet();
            worker.share(problem_.sources, [&](int64_t e) {
                const float* from = channel(source_, e);
                correlate_images<2>({image_, explained_}, e, [&](int64_t at, const vec(&sum)[2]) {
                    store(result + at, load(from + at) * ratio(sum[0], sum[1], eps));
                });
                grid_.copy_out(out, result, b, e);
            });
            worker.meet();
        }
    }

  private:
    float *image_, *source_, *explained_, *scratch_;
};

// The formulas are those of gradients.h.
class PlainGradients : Plain {
  public:
    PlainGradients(const Grouped& problem, const float* filters, int64_t threads)
        : Plain(problem, filters, 3 * problem.channels + 4 * problem.sources, threads),
          image_(take(problem.channels)), explained_(take(problem.channels)), dexplained_(take(problem.channels)),
          source_(take(problem.sources)), result_(take(problem.sources)), numerator_(take(problem.sources)),
          denominator_(take(problem.sources)), scratch_(take(threads)) {}

    // Gradients whose tensors have no data, and the filters' gradient if `dfilters` is nullptr, are not computed.
    void run(const Worker& worker, const Tensor<const float>& grad, const Tensor<const float>& x,
             const Tensor<const float>& source, const Tensor<float>& dx, const Tensor<float>& dsource, float* dfilters,
             float eps) const {
        clear(worker);
        float* scratch = channel(scratch_, worker.index);
        for (int64_t b = 0; b < problem_.batch; ++b) {
            worker.share(problem_.channels, [&](int64_t c) { grid_.copy_in(channel(image_, c), x, b, c); });
            worker.share(problem_.sources, [&](int64_t e) {
                grid_.copy_in(channel(source_, e), source, b, e);
                grid_.copy_in(channel(result_, e), grad, b, e);
            });
            worker.meet();
            worker.share(problem_.channels, [&](int64_t c) { reconstruct_inside(explained_, source_, c); });
            worker.meet();
            worker.share(problem_.sources, [&](int64_t e) { make_ratios(e, eps); });
            worker.meet();
            worker.share(problem_.channels, [&](int64_t c) {
                reconstruct_inside(dexplained_, denominator_, c);
                if (dx.data == nullptr) return;
                reconstruct(numerator_, c, [&](int64_t at, vec sum) { store(scratch + at, sum); });
                grid_.copy_out(dx, scratch, b, c);
            });
            worker.meet();
            worker.share(dsource.data == nullptr ? 0 : problem_.sources, [&](int64_t e) {
                const float* direct = channel(result_, e);
                correlate_images<1>({dexplained_}, e, [&](int64_t at, const vec(&sum)[1]) {
                    store(scratch + at, load(direct + at) + sum[0]);
                });
                grid_.copy_out(dsource, scratch, b, e);
            });
            worker.share(dfilters == nullptr ? 0 : problem_.channels * problem_.sources_per_group(),
                         [&](int64_t pair) { add_filter_gradient(dfilters, pair, b == 0); });
            worker.meet();
        }
    }

  private:
    void reconstruct_inside(float* images, float* source, int64_t c) const {
        float* to = channel(images, c);
        reconstruct(source, c, [&](int64_t at, vec sum) { grid_.store_inside(to, at, sum); });
    }

    void make_ratios(int64_t e, float eps) const {
        const float* source = channel(source_, e);
        float *result = channel(result_, e), *numerator = channel(numerator_, e),
              *denominator = channel(denominator_, e);
        correlate_images<2>({image_, explained_}, e, [&](int64_t at, const vec(&sum)[2]) {
            const vec grad = load(result + at), quotient = ratio(sum[0], sum[1], eps);
            const vec dn = divide(grad * load(source + at), sum[1], eps);
            grid_.store_inside(numerator, at, dn);
            grid_.store_inside(denominator, at, -dn * quotient);
            store(result + at, grad * quotient);
        });
    }

    void add_filter_gradient(float* dfilters, int64_t pair, bool first) const {
        const int64_t per_group = problem_.sources_per_group(), c = pair / per_group,
                      e = c / problem_.channels_per_group() * per_group + pair % per_group;
        const float* const a[3] = {channel(numerator_, e), channel(denominator_, e), channel(source_, e)};
        const float* const b[3] = {channel(image_, c), channel(explained_, c), channel(dexplained_, c)};
        float* to = dfilters + pair * grid_.taps();
        for (int64_t tap = 0; tap < grid_.taps(); tap += kTapsAtOnce) {
            const int64_t count = std::min<int64_t>(kTapsAtOnce, grid_.taps() - tap);
            int64_t distances[kTapsAtOnce] = {};
            float results[kTapsAtOnce];
            for (int64_t k = 0; k < count; ++k) distances[k] = grid_.distance(tap + k);
            dot(grid_, a, b, distances, results);
            for (int64_t k = 0; k < count; ++k) to[tap + k] = (first ? 0.0f : to[tap + k]) + results[k];
        }
    }

    float *image_, *explained_, *dexplained_, *source_, *result_, *numerator_, *denominator_, *scratch_;
};

}  // namespace deconvseg::ndc
