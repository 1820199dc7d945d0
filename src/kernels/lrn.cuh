// Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3). For each pixel and
// channel i, with sums over the channels j from i - (size - 1) / 2 to i + size / 2 (integer divisions) that exist:
//
//   s_i  = k + alpha * sum_j x_j²            (alpha is not divided by size)
//   forward    y_i  = x_i s_i^-beta
//   backward   dx_i = dy_i s_i^-beta - 2 alpha beta x_i sum_j dy_j x_j s_j^(-beta-1)
//
// Backward's sum is over the j whose windows hold i: from i - size / 2 to i + (size - 1) / 2. The windows of an even
// size reach one further up than down, as ONNX's do.
//
// Arrays are rows (pixels of all images) × channels on the stream's device, contiguous but for y and dy, whose
// rows lie `pitch` >= channels floats apart. s is computed again in backward: that costs less than storing and
// loading it. No array may overlap another. Results are right for all finite x and dy, also where s or dy · x are beyond
// float32. A NaN, or an infinity whose power is 0, gives what the formula makes of it: infinite x are NaN and all
// others in whose window they are 0.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"
#include "kernels/normalisation.cuh"

namespace pyalexnet {

struct Lrn {
  int64_t rows, channels;
  Normalisation normalisation;
  bool x_from_relu = false;  // backward goes on through the ReLU that made x: dx is 0 where x is not positive
};

// Both throw std::invalid_argument for counts below 1 and a pitch below channels.
void lrn_forward(float* y, int64_t y_pitch, const float* x, const Lrn& lrn, cudaStream_t stream);
void lrn_backward(float* dx, const float* dy, int64_t dy_pitch, const float* x, const Lrn& lrn, cudaStream_t stream);

// What one call of the forward (reads x, writes y) or the backward (reads dy and x, writes dx) must do. A
// power counts as one operation, and a window as one addition a channel it gains and one a channel it loses.
Cost lrn_forward_cost(int64_t rows, int64_t channels);
Cost lrn_backward_cost(int64_t rows, int64_t channels);

}  // namespace pyalexnet
