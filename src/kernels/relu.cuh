// ReLU: y = max(x, 0), the nonlinearity of Krizhevsky et al. 2012, section 3.1.
//
//   forward    y_i  = x_i > 0 ? x_i : 0              (NaN gives NaN)
//   backward   dx_i = y_i > 0 ? scale · dy_i : 0     (only the output is needed, not the input)
//
// With scale = 1 / (1 - p), backward goes back through dropout and ReLU in one: y is then what dropout gave, whose
// elements are above 0 where it kept them and the ReLU let them pass, and no mask is drawn again.
//
// Forward takes `count` contiguous floats; y may be x. Backward takes rows × columns, each array's rows
// `pitch` >= columns floats apart, so that a tower can hold its slice of a joint array; dx may be dy. All
// arrays lie on the stream's device.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

// Both throw std::invalid_argument for counts below 1, for a pitch below columns and for a scale that is not above 0
// and finite.
void relu_forward(float* y, const float* x, int64_t count, cudaStream_t stream);
void relu_backward(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const float* y, int64_t y_pitch,
                   int64_t rows, int64_t columns, float scale, cudaStream_t stream);

// What one call of the forward (reads x, writes y) or the backward (reads dy and y, writes dx) must do.
Cost relu_forward_cost(int64_t count);
Cost relu_backward_cost(int64_t count);

}  // namespace pyalexnet
