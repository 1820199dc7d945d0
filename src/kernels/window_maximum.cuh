// The maximum of a pooling window, pixel by pixel: what maxpool.cu and lrn_maxpool.cu have in common.
#pragma once

#include "device/vec_lanes.cuh"

namespace pyalexnet {

// A window's maximum so far and which of its pixels that is, counted from 0 in row-major order (exact in a float). Pixels
// must meet it in that order, so that the first among equals, and among NaNs, wins.
template <int N>
struct Maximum {
  Vec<N> value, pixel;

  __device__ void meet(Vec<N> candidate, int number) {
    pixel = select_beating(candidate, value, broadcast<N>(static_cast<float>(number)), pixel);
    value = select_beating(candidate, value, candidate, value);
  }

  // The same where no pixel is NaN, for less.
  __device__ void meet_number(Vec<N> candidate, int number) {
    pixel = select_below(value, candidate, broadcast<N>(static_cast<float>(number)), pixel);
    value = greater(candidate, value);
  }
};

}  // namespace pyalexnet
