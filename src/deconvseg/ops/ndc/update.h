// The update with one group per image channel. A box of a channel block is processed plane by plane, so that all
// intermediate data stay in cache.
#pragma once

#include <cstdint>

#include "blocks.h"

namespace deconvseg::ndc {

struct UpdateTensors {
    Tensor<const float> x, source;
    const float* filters;
    Tensor<float> out;
};

// Eq. 7 in one box: planes of S are two half kernels ahead of the result, those of X and of S ∗ V one.
template <int R, int KW>
class Update {
  public:
    static constexpr int64_t kRings = 3;

    Update(const Problem& problem, const Box& box)
        : problem_(problem),
          half_(problem.shape.kd / 2),
          source_(problem, box, 2, 2 * half_ + 1, problem.shape.sources),
          image_(problem, box, 1, 2 * half_ + 1, 1),
          explained_(problem, box, 1, 2 * half_ + 1, 1),
          filter_floats_(problem.shape.filter_vectors() * kLanes),
          row_floats_(box.width() * problem.shape.sources * kLanes) {}

    int64_t floats() const {
        return filter_floats_ + row_floats_ + source_.floats() + image_.floats() + explained_.floats();
    }

    void run(const UpdateTensors& tensors, const Task& task, float eps, float* memory) {
        const Shape& shape = problem_.shape;
        const Box &box = task.box, one = box.grown(1, problem_), two = box.grown(2, problem_);
        float* filters = memory;
        float* line = filters + filter_floats_;
        memory = line + row_floats_;
        for (Ring* ring : {&source_, &image_, &explained_}) ring->take(memory);
        pack_filters(filters, tensors.filters, problem_, task.block);
        const Row row{tensors.out.strides[1], tensors.out.strides[4], problem_.lanes(task.block), shape.sources,
                      box.width()};
        int64_t sources = two.z, explained = one.z;
        for (int64_t z = box.z; z < box.z_end; ++z) {
            // Each plane is computed as soon as its inputs are available, because the rings hold few planes.
            advance(explained, z + half_, problem_.depth, [&](int64_t e) {
                advance(sources, e + half_, problem_.depth, [&](int64_t plane) {
                    load_plane(source_, tensors.source, problem_, task, shape.sources, plane, two);
                });
                load_plane(image_, tensors.x, problem_, task, 1, e, one);
                reconstruct_rows<R, KW>(explained_.at(e, one.y, one.x), explained_.row(), false,
                                        source_.taps(e, one.y, one.x), source_.row(), filters, shape, one.width(),
                                        one.height());
            });
            for (int64_t y = box.y; y < box.y_end; ++y) {
                update_row<R, KW>(line, source_.at(z, y, box.x), image_.taps(z, y, box.x),
                                  explained_.taps(z, y, box.x), image_.row(), filters, shape, box.width(), eps);
                store_row(tensors.out.at(task.sample, task.block * kLanes * shape.sources, z, y, box.x), line, row);
            }
        }
    }

  private:
    const Problem& problem_;
    int64_t half_;
    Ring source_, image_, explained_;
    int64_t filter_floats_, row_floats_;
};

}  // namespace deconvseg::ndc
