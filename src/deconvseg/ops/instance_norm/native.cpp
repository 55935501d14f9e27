// Instance normalisation as a C function: float32.

#include "interface.h"
#include "norm.h"

using namespace deconvseg;

// Images are (batch, channels, positions) or, with channels last, (batch, positions, channels); sizes are the fields of
// NormShape in order; numbers are eps and the negative slope. Weight and bias may be null, and out may be x. Returns
// 0, or 1 if memory ran out.
extern "C" int deconvseg_instance_norm(const float* x, const float* weight, const float* bias, float* out,
                                       const int64_t* sizes, const float* numbers) {
    const auto shape = shape_from<NormShape, 5>(sizes);
    if (out != x) prefer_large_pages(out, shape.batch * shape.channels * shape.positions * sizeof(float));
    return guarded([&] { normalise(shape, Norm<float>{x, weight, bias, out, numbers[0], numbers[1]}); });
}
