// The selective scan on a CPU, forward and backward: C functions, called from native.py.

#include "backward.h"
#include "interface.h"

using namespace deconvseg;

namespace {

scan::Problem problem_of(const float* const* inputs, const int64_t* sizes) {
    return {sizes[0],  sizes[1],  sizes[2],  sizes[3],  sizes[4],  sizes[5] != 0, inputs[0],
            inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], inputs[6],     inputs[7]};
}

// Call with the number of vectors for the states as a constant; native.py ensures at most 4.
template <class Call>
int with_vectors(int64_t states, Call call) {
    return guarded([&] {
        switch ((states + kLanes - 1) / kLanes) {
            case 1: return call(std::integral_constant<int, 1>{});
            case 2: return call(std::integral_constant<int, 2>{});
            case 3: return call(std::integral_constant<int, 3>{});
            default: return call(std::integral_constant<int, 4>{});
        }
    });
}

}  // namespace

// inputs are u, delta, b, c, gate, a, skip and bias, contiguous; gate, skip and bias may be null. sizes are batch,
// channels, groups, states, steps, and whether softplus is applied. states, if not null, receives the states before
// every chunk, (batch, channels, chunks, states). Returns 0, or 1 if memory ran out.
extern "C" int deconvseg_selective_scan(const float* const* inputs, float* out, float* states, const int64_t* sizes,
                                        int64_t threads) {
    const scan::Problem problem = problem_of(inputs, sizes);
    prefer_large_pages(out, problem.batch * problem.channels * problem.steps * sizeof(float));
    return with_vectors(problem.states, [&](auto vectors) {
        scan::forward<decltype(vectors)::value>(problem, out, states, threads);
    });
}

// Gradients in the order of the inputs from `grad`, the gradient of out; `states` are those of the forward pass.
extern "C" int deconvseg_selective_scan_backward(const float* grad, const float* states, const float* const* inputs,
                                                 float* const* gradients, const int64_t* sizes, int64_t threads) {
    const scan::Problem problem = problem_of(inputs, sizes);
    const scan::Gradients results = {gradients[0], gradients[1], gradients[2], gradients[3],
                                     gradients[4], gradients[5], gradients[6], gradients[7]};
    for (float* large : {results.u, results.delta, results.gate})
        if (large) prefer_large_pages(large, problem.batch * problem.channels * problem.steps * sizeof(float));
    return with_vectors(problem.states, [&](auto vectors) {
        scan::backward<decltype(vectors)::value>(problem, grad, states, results, threads);
    });
}
