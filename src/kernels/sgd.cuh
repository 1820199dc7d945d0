// Stochastic gradient descent with momentum and weight decay, as Krizhevsky et al. 2012, section 5 write it:
//
//   v ← momentum · v - weight_decay · lr · w - lr · g
//   w ← w + v
//
// The learning rate scales what goes into v, not v itself, so that a lower rate acts on new gradients only. g
// is the gradient of the mean loss of the batch. Both lines are one pass, computed in fp32 as v ← fma(-lr, g,
// fma(-(weight_decay · lr), w, momentum · v)).
//
// A step is of many arrays, each of its own length and rates, and one launch: a table of them is the kernel's
// parameter, and what all of them hold is shared out over all threads. w, v and g of an array hold `count` contiguous
// floats on the stream's device; w and v are updated in place.
#pragma once

#include <vector>

#include "device/cost.h"
#include "device/platform.cuh"
#include "device/setting.cuh"

namespace pyalexnet {

// In device memory: three floats, in this order.
struct Sgd {
  float lr = 0, momentum = 0.9f, weight_decay = 5e-4f;
};

struct SgdArray {
  float *w, *v;
  const float* g;
  int64_t count;
  Setting<Sgd> sgd;
};

// Throws std::invalid_argument where array `index` of `arrays` has a count < 1, or rates that are negative or not finite
// and do not lie on the device.
void check_sgd(const Setting<Sgd>& sgd, int64_t count, size_t index, size_t arrays);

// As many arrays as fit into a kernel's parameters; a step of more is several launches.
int sgd_arrays_a_launch();

// No array may lie in another one. Throws std::invalid_argument for no arrays, for count < 1 and for rates that are
// negative or not finite, unless they lie on the device; nothing is launched then.
void sgd_step(const std::vector<SgdArray>& arrays, cudaStream_t stream);

// What one step must do: read w, v and g, write w and v, of `count` elements over all arrays.
Cost sgd_step_cost(int64_t count);

}  // namespace pyalexnet
