// The gradient of the normalisation.
#pragma once

#include "shape.h"

namespace deconvseg::block {

// Computes the gradient of x from that of n = (x - mean) scale, adds `base`, and writes the sum to `to`.
class NormGradient {
  public:
    explicit NormGradient(const Shape& shape)
        : channels_(shape.channels),
          voxels_(shape.voxels()),
          chunks_(std::min<int64_t>(voxels_, 64)),
          partial_(chunks_ * shape.inner() * 2),
          mean_(shape.inner()),
          product_(shape.inner()) {}

    template <class T>
    void run(const Worker& worker, const Statistics& of, const T* x, const float* grad, const T* base, T* to) {
        worker.share(chunks_, [&](int64_t chunk) { sum(of, x, grad, chunk); });
        worker.meet();
        worker.share(channels_, [&](int64_t c) {
            double total = 0, product = 0;
            for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
                total += partial_[chunk * inner() * 2 + c];
                product += partial_[(chunk * 2 + 1) * inner() + c];
            }
            mean_[c] = static_cast<float>(total / voxels_);
            product_[c] = static_cast<float>(product / voxels_);
        });
        worker.meet();
        worker.share(chunks_, [&](int64_t chunk) {
            for (int64_t v = begin(chunk); v < begin(chunk + 1); ++v)
                for (int64_t c = 0; c < channels_; c += kLanes) {
                    const int64_t at = v * channels_ + c, count = channels_ - c;
                    const vec scale = load(&of.scale[c]);
                    const vec normal = (load_some(x + at, count) - load(&of.mean[c])) * scale;
                    const vec centred = load_some(grad + at, count) - load(&mean_[c]) - normal * load(&product_[c]);
                    store_some(to + at, load_some(base + at, count) + scale * centred, count);
                }
        });
        worker.meet();
    }

  private:
    int64_t inner() const { return static_cast<int64_t>(mean_.size()); }
    int64_t begin(int64_t chunk) const { return voxels_ * chunk / chunks_; }

    template <class T>
    void sum(const Statistics& of, const T* x, const float* grad, int64_t chunk) {
        double* result = &partial_[chunk * inner() * 2];
        std::fill(result, result + inner() * 2, 0.0);
        for (int64_t from = begin(chunk); from < begin(chunk + 1); from += 64)
            for (int64_t c = 0; c < channels_; c += kLanes) {
                vec total{}, product{};
                const vec mean = load(&of.mean[c]), scale = load(&of.scale[c]);
                for (int64_t v = from; v < std::min(from + 64, begin(chunk + 1)); ++v) {
                    const int64_t at = v * channels_ + c, count = channels_ - c;
                    const vec value = load_some(grad + at, count);
                    total += value;
                    product += value * ((load_some(x + at, count) - mean) * scale);
                }
                float totals[kLanes], products[kLanes];
                store(totals, total), store(products, product);
                for (int lane = 0; lane < kLanes; ++lane) result[c + lane] += totals[lane];
                for (int lane = 0; lane < kLanes; ++lane) result[inner() + c + lane] += products[lane];
            }
    }

    int64_t channels_, voxels_, chunks_;
    std::vector<double> partial_;
    std::vector<float> mean_, product_;
};

}  // namespace deconvseg::block
