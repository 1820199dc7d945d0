// Stochastic gradient descent with momentum and weight decay, as Krizhevsky et al. 2012, section 5 write it:
//
//   v ← momentum · v - weight_decay · lr · w - lr · g
//   w ← w + v
//
// The learning rate scales what goes into v, not v itself, so that a lower rate acts on new gradients only. g
// is the gradient of the mean loss of the batch. Both lines are one pass, computed in fp32 as v ← fma(-lr, g,
// fma(-(weight_decay · lr), w, momentum · v)).
//
// w, v and g hold `count` contiguous floats on the stream's device; w and v are updated in place.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

struct Sgd {
  float lr, momentum = 0.9f, weight_decay = 5e-4f;
};

// Throws std::invalid_argument for count < 1 and for rates that are negative or not finite.
void sgd_step(float* w, float* v, const float* g, int64_t count, const Sgd& sgd, cudaStream_t stream);

// What one step must do: read w, v and g, write w and v.
Cost sgd_step_cost(int64_t count);

}  // namespace pyalexnet
