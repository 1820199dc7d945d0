// Hyperbolic tangent, the saturating nonlinearity that Krizhevsky et al. 2012, section 3.1, compare ReLU with.
//
//   forward    y_i  = tanh(x_i)             (NaN gives NaN)
//   backward   dx_i = dy_i · (1 - y_i²)     (only the output is needed, not the input)
//
// The forward is right within 5 units in the last place: with t = tanh(x / 4) from the continued fraction
// t = u / (1 + u² / (3 + u² / (5 + …))), cut after its seventh term, tanh(2u) = 2 tanh(u) / (1 + tanh²(u)) is applied
// twice. It is made of vector arithmetic alone, which is the same on every target.
//
// Forward takes `count` contiguous floats; y may be x. Backward takes rows × columns, each array's rows
// `pitch` >= columns floats apart, so that a tower can hold its slice of a joint array; dx may be dy. All
// arrays lie on the stream's device.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

// Both throw std::invalid_argument for counts below 1 and for a pitch below columns.
void tanh_forward(float* y, int64_t y_pitch, const float* x, int64_t x_pitch, int64_t rows, int64_t columns,
                  cudaStream_t stream);
void tanh_backward(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const float* y, int64_t y_pitch,
                   int64_t rows, int64_t columns, cudaStream_t stream);

// What one call of the forward (reads x, writes y) or the backward (reads dy and y, writes dx) must do.
Cost tanh_forward_cost(int64_t count);
Cost tanh_backward_cost(int64_t count);

}  // namespace pyalexnet
