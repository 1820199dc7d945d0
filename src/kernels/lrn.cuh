// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3). For each pixel and
// channel i, with h = size / 2 (integer division) and sums over j from max(0, i - h) to min(channels - 1, i +
// h):
//
//   s_i  = k + alpha * sum_j x_j²            (alpha is not divided by size)
//   forward    y_i  = x_i s_i^-beta
//   backward   dx_i = dy_i s_i^-beta - 2 alpha beta x_i sum_j dy_j x_j s_j^(-beta-1)
//
// A window reaches h to both sides, so j's window holds i exactly where i's holds j, and backward's sum runs
// over the same j. An even size therefore takes in size + 1 channels, as the formula says.
//
// Arrays are rows (pixels of all images) × channels on the stream's device, contiguous but for y and dy, whose
// rows lie `pitch` >= channels floats apart. s is computed again in backward: that costs less than storing and
// loading it. No array may overlap another. Where squares leave float32's range, y and dx are NaN.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

struct Lrn {
  int64_t rows, channels;
  int64_t size = 5;
  float alpha = 1e-4f, beta = 0.75f, k = 2.0f;
  bool x_from_relu = false;  // backward goes on through the ReLU that made x: dx is 0 where x is not positive
};

// Both throw std::invalid_argument for counts below 1, a pitch below channels, and numbers with which s could
// fail to be positive.
void lrn_forward(float* y, int64_t y_pitch, const float* x, const Lrn& lrn, cudaStream_t stream);
void lrn_backward(float* dx, const float* dy, int64_t dy_pitch, const float* x, const Lrn& lrn, cudaStream_t stream);

// What one call of the forward (reads x, writes y) or the backward (reads dy and x, writes dx) must do. A
// power counts as one operation, and a window as one addition a channel it gains and one a channel it loses.
Cost lrn_forward_cost(const Lrn& lrn);
Cost lrn_backward_cost(const Lrn& lrn);

}  // namespace pyalexnet
