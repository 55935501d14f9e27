// C interface of the nonnegative deconvolution: float32, three spatial axes (missing ones have size 1), any strides.
// `sizes` are batch, image channels C, source channels E, depth, height, width, kernel depth, height, width and groups.
// `strides` are five numbers of elements for each strided tensor, in the order of the arguments. Filters
// (C, E/groups, kernel) and their gradient are contiguous. Outputs have the strides of dense memory. Functions return
// 0, or 1 if memory ran out.

#include <algorithm>
#include <cstdint>

#include "gradients.h"
#include "interface.h"
#include "parallel.h"
#include "plain.h"
#include "update.h"

namespace {

using namespace deconvseg;
using namespace deconvseg::ndc;

// Largest size of a task's planes in floats, so that they stay in the L2 cache of its core (for the gradients, in its
// share of the last-level cache).
constexpr int64_t kUpdateBudget = (int64_t{2} << 20) / 4;
constexpr int64_t kGradientBudget = (int64_t{8} << 20) / 4;

// Whether vectors hold channels (a block of channels, one per group) rather than voxels of one channel.
bool by_blocks(const int64_t* sizes) { return sizes[9] == sizes[1] && sizes[1] * 4 > kLanes; }

Problem blocked_problem(const int64_t* sizes) {
    return {sizes[0], sizes[1], sizes[3], sizes[4], sizes[5], {sizes[6], sizes[7], sizes[8], sizes[2] / sizes[1]}};
}

Grouped grouped_problem(const int64_t* sizes) {
    return {sizes[0], sizes[1], sizes[2], {sizes[3], sizes[4], sizes[5]}, {sizes[6], sizes[7], sizes[8]}, sizes[9]};
}

// Call work(pass, task, index, memory) for every task; each thread has its own memory.
template <class Pass, class Work>
void run_tasks(const Problem& problem, const Partition& partition, int64_t threads, Work work) {
    const int64_t floats = Pass(problem, partition.largest()).floats() + Pass::kRings * Ring::floats_of_taps(problem.shape);
    threads = std::min(threads, partition.tasks());
    const Buffer memory(threads * floats);
    run_team(threads, [&](const Worker& worker) {
        worker.share(partition.tasks(), [&](int64_t index) {
            const Task task = partition.task(index);
            Pass pass(problem, task.box);
            work(pass, task, index, memory + worker.index * floats);
        });
    });
}

template <class Pass>
Partition partition_for(const Problem& problem, int64_t budget) {
    return Partition(problem, budget, [&](const Box& box) { return Pass(problem, box).floats(); });
}

void update_by_blocks(const Problem& problem, const UpdateTensors& tensors, float eps, int64_t threads) {
    with_sizes(problem.shape, [&](auto sources, auto columns) {
        using Pass = Update<decltype(sources)::value, decltype(columns)::value>;
        run_tasks<Pass>(problem, partition_for<Pass>(problem, kUpdateBudget), threads,
                        [&](Pass& pass, const Task& task, int64_t, float* memory) {
                            pass.run(tensors, task, eps, memory);
                        });
    });
}

// Sum the tasks' shares in a fixed order, and unpack them to (C, R, taps).
void sum_filter_gradients(float* dfilters, const float* shares, const Problem& problem, const Partition& partition) {
    const int64_t vectors = problem.shape.filter_vectors(), sources = problem.shape.sources, taps = vectors / sources;
    for (int64_t block = 0; block < problem.blocks(); ++block)
        for (int64_t i = 0; i < vectors; ++i) {
            vec sum{};
            for (int64_t sample = 0; sample < problem.batch; ++sample)
                for (int64_t j = 0; j < partition.tasks_per_block(); ++j) {
                    const int64_t task = (sample * problem.blocks() + block) * partition.tasks_per_block() + j;
                    sum += load(shares + (task * vectors + i) * kLanes);
                }
            for (int64_t lane = 0; lane < problem.lanes(block); ++lane)
                dfilters[((block * kLanes + lane) * sources + i % sources) * taps + i / sources] = sum[lane];
        }
}

void gradients_by_blocks(const Problem& problem, const GradientTensors& tensors, float* dfilters, float eps,
                         int64_t threads) {
    with_sizes(problem.shape, [&](auto sources, auto columns) {
        using Pass = Gradients<decltype(sources)::value, decltype(columns)::value>;
        const Partition partition = partition_for<Pass>(problem, kGradientBudget);
        const int64_t share = problem.shape.filter_vectors() * kLanes;
        const Buffer shares(dfilters == nullptr ? 0 : partition.tasks() * share);
        run_tasks<Pass>(problem, partition, threads, [&](Pass& pass, const Task& task, int64_t index, float* memory) {
            pass.run(tensors, task, eps, dfilters == nullptr ? nullptr : shares + index * share, memory);
        });
        if (dfilters != nullptr) sum_filter_gradients(dfilters, shares, problem, partition);
    });
}

void expect_writes(float* memory, const int64_t* sizes, int64_t channels) {
    const int64_t floats = sizes[0] * channels * sizes[3] * sizes[4] * sizes[5];
    if (memory != nullptr) prefer_large_pages(memory, static_cast<size_t>(floats) * sizeof(float));
}

}  // namespace

extern "C" int deconvseg_ndc_update(const float* x, const float* source, const float* filters, float* out,
                                    const int64_t* sizes, const int64_t* strides, const float* eps, int64_t threads) {
    const UpdateTensors tensors{{x, strides}, {source, strides + 5}, filters, {out, strides + 10}};
    expect_writes(out, sizes, sizes[2]);
    return guarded([&] {
        if (by_blocks(sizes)) return update_by_blocks(blocked_problem(sizes), tensors, *eps, threads);
        const Grouped problem = grouped_problem(sizes);
        const PlainUpdate update(problem, filters, threads);
        run_team(threads,
                 [&](const Worker& worker) { update.run(worker, tensors.x, tensors.source, tensors.out, *eps); });
    });
}

// `dx`, `dsource` and `dfilters` may be null if not needed.
extern "C" int deconvseg_ndc_update_backward(const float* grad, const float* x, const float* source,
                                             const float* filters, float* dx, float* dsource, float* dfilters,
                                             const int64_t* sizes, const int64_t* strides, const float* eps,
                                             int64_t threads) {
    const GradientTensors tensors{{grad, strides},    {x, strides + 5},       {source, strides + 10}, filters,
                                  {dx, strides + 15}, {dsource, strides + 20}};
    expect_writes(dx, sizes, sizes[1]);
    expect_writes(dsource, sizes, sizes[2]);
    return guarded([&] {
        if (by_blocks(sizes)) return gradients_by_blocks(blocked_problem(sizes), tensors, dfilters, *eps, threads);
        const Grouped problem = grouped_problem(sizes);
        const PlainGradients gradients(problem, filters, threads);
        run_team(threads, [&](const Worker& worker) {
            gradients.run(worker, tensors.grad, tensors.x, tensors.source, tensors.dx, tensors.dsource, dfilters, *eps);
        });
    });
}
