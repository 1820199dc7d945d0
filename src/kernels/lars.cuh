// Layer-wise adaptive rate scaling, LARS (You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional
// Networks", algorithm 1). An array's learning rate in a step follows from its norm and its gradient's,
//
//   lr' = lr · trust · ‖w‖ / (‖g‖ + weight_decay · ‖w‖),
//
// so that sgd_step() moves it by about lr · trust of its norm, however large its gradient is. Where w or g is all zeros,
// lr' = lr, as in the authors' own code (SGDSolver::GetLocalRate of NVIDIA's Caffe), whose arrays are ours too: weights
// and biases each have a rate of their own.
//
// Norms are Euclidean. Squares are summed in fp32, by parts of an array whose sums are then added up, in an order that
// follows from the array's length alone.
#pragma once

#include <vector>

#include "device/cost.h"
#include "device/platform.cuh"
#include "device/setting.cuh"
#include "kernels/sgd.cuh"

namespace pyalexnet {

struct LarsArray {
  const float *w, *g;
  int64_t count;  // floats of each, contiguous
  Setting<Sgd> sgd;
  Sgd* scaled;  // in device memory: sgd with lr' for lr
};

// Floats of scratch memory that lars_rates() needs for arrays of so many elements.
int64_t lars_rates_workspace_floats(const std::vector<int64_t>& counts);

// All pointers are to memory of the stream's device; no `scaled` may be another array's `sgd`. Throws
// std::invalid_argument for no arrays, for count < 1, and for rates and a trust that are negative or not finite, unless
// they lie on the device; nothing is launched then.
void lars_rates(const std::vector<LarsArray>& arrays, Setting<float> trust, float* workspace, cudaStream_t stream);

// What it must do: read w and g, of `count` elements over all arrays.
Cost lars_rates_cost(int64_t count);

}  // namespace pyalexnet
