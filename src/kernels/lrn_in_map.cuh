// Local response normalisation within a map: over the pixels around one, instead of the channels. The paper does not
// mention it; net 145 of the 2012 source code, which gave the paper's results, has one behind conv2's LRN (cnorm2, with
// size 5, alpha 0.001 / 25, beta 0.75 and k 1). For each channel, with h = size / 2 (integer division) and sums over
// the pixels j at most h rows and h columns away that exist:
//
//   s_i  = k + alpha * sum_j x_j²            (alpha is not divided by the window's pixels)
//   forward    y_i  = x_i s_i^-beta          (s is kept for backward)
//   backward   dx_i = dy_i s_i^-beta - 2 alpha beta x_i sum_j dy_j x_j s_j^(-beta-1)
//
// A window reaches h to all sides, so j's window holds i exactly where i's holds j, and backward's sum runs over the
// same j. An even size therefore takes in size + 1 rows and columns.
//
// Arrays are images × height × width × channels on the stream's device, contiguous but for y and dy, whose pixels lie
// `pitch` >= channels floats apart. No array may overlap another. Where squares leave float32's range, y and dx are NaN.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

struct LrnInMap {
  int64_t images, height, width, channels;
  int64_t size = 5;
  float alpha = 4e-5f, beta = 0.75f, k = 1.0f;
};

// Both throw std::invalid_argument for counts below 1, a pitch below channels, and numbers with which s could fail to be
// positive. Backward overwrites `terms`.
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
