// The sum of two arrays' slices: out = a + b. It joins the two towers' partial gradients, always tower 0 +
// tower 1, so that the bits do not depend on which device adds.
//
// Each array is rows × columns, its rows `pitch` >= columns floats apart, on the stream's device; out may be
// a or b.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

// Throws std::invalid_argument for counts below 1 and for a pitch below columns.
void add_slices(float* out, int64_t out_pitch, const float* a, int64_t a_pitch, const float* b, int64_t b_pitch,
                int64_t rows, int64_t columns, cudaStream_t stream);

Cost add_slices_cost(int64_t rows, int64_t columns);

}  // namespace pyalexnet
