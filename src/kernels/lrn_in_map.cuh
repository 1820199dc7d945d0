// Local response normalisation within a map: over the pixels around one, instead of the channels. The paper does not
// mention it; net 145 of the 2012 source code, which gave the paper's results, has one behind conv2's LRN (cnorm2, with
// size 5, alpha 0.001 / 25, beta 0.75 and k 1). For each channel, with sums over the pixels j that exist from (size - 1)
// / 2 rows and columns above and left of pixel i to size / 2 below and right of it (integer divisions):
//
//   s_i  = k + alpha * sum_j x_j²            (alpha is not divided by the window's pixels)
//   forward    y_i  = x_i s_i^-beta          (s is kept for backward)
//   backward   dx_i = dy_i s_i^-beta - 2 alpha beta x_i sum_j dy_j x_j s_j^(-beta-1)
//
// Backward's sum is over the j whose windows hold i. The windows of an even size reach one further down and right than
// up and left, as ONNX's over channels do.
//
// Arrays are images × height × width × channels on the stream's device, contiguous but for y and dy, whose pixels lie
// `pitch` >= channels floats apart. No array may overlap another. y and dx are right for all finite x and dy, also where s or dy · x
// are beyond float32, and s is infinite there. A NaN, or an infinity whose power is 0, gives what the formula makes of
// it.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"
#include "kernels/normalisation.cuh"

namespace pyalexnet {

struct LrnInMap {
  int64_t images, height, width, channels;
  Normalisation normalisation;
};

// Both throw std::invalid_argument for counts below 1 and a pitch below channels. Backward overwrites `terms`.
void lrn_in_map_forward(float* y, int64_t y_pitch, float* scale, const float* x, const LrnInMap& lrn,
                        cudaStream_t stream);
void lrn_in_map_backward(float* dx, float* terms, const float* dy, int64_t dy_pitch, const float* x, const float* scale,
                         const LrnInMap& lrn, cudaStream_t stream);

// What one call of the forward (reads x, writes y and scale) or the backward (reads dy, x and scale, writes dx, and
// terms, which it reads again) must do. A power counts as one operation, and a window as one addition a column that it
// gains and one a column that it loses, of sums over columns that are counted alike.
Cost lrn_in_map_forward_cost(int64_t elements);
Cost lrn_in_map_backward_cost(int64_t elements);

}  // namespace pyalexnet
