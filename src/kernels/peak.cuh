// The device's floating-point peak, measured: multiply-adds in registers and nothing else. It is the yardstick
// that the benchmark holds every other kernel against.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

// Launches `blocks` blocks that each do `rounds` rounds of independent multiply-adds. `sink` takes one float a
// block, so that the work is not optimised away. Throws std::invalid_argument for counts below 1.
void multiply_add_peak(float* sink, int64_t blocks, int64_t rounds, cudaStream_t stream);

Cost multiply_add_peak_cost(int64_t blocks, int64_t rounds);

}  // namespace pyalexnet
