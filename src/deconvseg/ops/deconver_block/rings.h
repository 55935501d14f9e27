// Planes of the mixer in ring buffers.
#pragma once

#include "../ndc/kernels.h"
#include "packed.h"

namespace deconvseg::block {

// Planes of X, S and S * V, and where the lines of a step are in them.
template <class T, int Ratio>
class Rings {
  public:
    // `lag` is the number of margins between the newest plane and the oldest plane that is still needed, `step` that of
    // planes per step.
    Rings(const Shape& shape, const Weights& weights, const Packed<T>& packed, int64_t lag, int64_t step)
        : shape_(shape),
          weights_(weights),
          packed_(packed),
          kernel_{shape.kernel_d, shape.kernel_h, shape.kernel_w, Ratio},
          step_(step),
          image_(shape, step_ + lag * shape.margin(), kPerChannel),
          source_(shape, step_ + lag * shape.margin(), Ratio),
          explained_(shape, step_ + lag * shape.margin(), kPerChannel) {}

    void clear(const Worker& worker) const {
        for (const RingOf<T>* ring : {&image_, &source_, &explained_}) ring->clear(worker);
    }

  protected:
    // Numbers of a channel in an image-like ring: in bfloat16 a voxel and its neighbour.
    static constexpr int64_t kPerChannel = Operands<T>::kDepth;

    // Number of planes whose neighbours are all available if `count` planes are.
    int64_t ready(int64_t count) const {
        return count == shape_.depth ? count : std::max<int64_t>(0, count - shape_.margin());
    }
    int64_t plane(int64_t line) const { return line / shape_.height; }
    int64_t y(int64_t line) const { return line % shape_.height; }
    template <class U>
    U* line_of(const RingOf<U>& ring, int64_t line, int64_t block) const {
        return ring.line(plane(line), block, y(line));
    }
    template <class U>
    U* at(const RingOf<U>& ring, int64_t line, int64_t column) const {
        return ring.at(plane(line), y(line), 0, column);
    }
    template <class U>
    PanelOf<U> panel(const RingOf<U>& ring, int64_t line, int64_t column) const {
        return {ring, plane(line), y(line), column};
    }

    // The planes around a line of a block, in the form that row kernels take.
    struct Taps {
        const T* planes[kDepthTaps];
        operator const T* const*() const { return planes; }
    };
    Taps around(const RingOf<T>& ring, int64_t line, int64_t block) const {
        Taps taps;
        for (int64_t k = 0; k < shape_.kernel_d; ++k)
            taps.planes[k] = ring.taps(plane(line) + k - shape_.margin(), block, y(line));
        return taps;
    }

    const Shape& shape_;
    const Weights& weights_;
    const Packed<T>& packed_;
    const ndc::Shape kernel_;
    const int64_t step_;
    RingOf<T> image_, source_, explained_;
};

// The row kernels of each step of the mixer: planes.h and planes_bfloat16.h.
template <class T, int Ratio, int Kernel>
class Planes;

}  // namespace deconvseg::block
