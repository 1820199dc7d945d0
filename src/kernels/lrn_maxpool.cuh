// Local response normalisation across channels and max pooling of what it gave, in one kernel each way: the formulas are
// those of lrn.cuh and maxpool.cuh, and so are the bits.
//
//   forward    y = maxpool(lrn(x)), and which of its window's pixels each y is: 0 to 8, in row-major order
//   backward   dz[pixel] = sum of dy of the windows that took that pixel;  dx = what lrn.cuh makes of dz and x
//
// The normalised map z and its gradient are never written. Of the maps that pass through memory, counted in x's size, are
// left: forward 1.3 of 3.25, backward 2.3 of 5.25.
//
// For the paper's windows alone: LRN over five channels with beta 0.75, pooling of 3 × 3 at stride 2 without padding, and
// channels that fill vectors. x and dx are images × height × width × channels, contiguous; y and dy are images × output
// height × output width pixels that lie `pitch` >= channels floats apart; winners are bytes, contiguous, in y's order. All
// arrays lie on the stream's device and do not overlap.
#pragma once

#include "kernels/lrn.cuh"
#include "kernels/maxpool.cuh"

namespace pyalexnet {

struct LrnMaxPool {
  MaxPool pool;  // its x_from_relu says whether backward goes on through the ReLU that made x
  Normalisation normalisation;
};

// Whether there are kernels for it.
bool fits_lrn_maxpool(const LrnMaxPool& both);

// All throw std::invalid_argument where there are no kernels, for a pitch below channels, and on GPUs for floats that
// are not aligned to 16 bytes or winners that are not to 4. Forward's winners may be null: they serve backward alone.
void lrn_maxpool_forward(float* y, int64_t y_pitch, uint8_t* winners, const float* x, const LrnMaxPool& both,
                         cudaStream_t stream);
void lrn_maxpool_backward(float* dx, const float* dy, int64_t dy_pitch, const uint8_t* winners, const float* x,
                          const LrnMaxPool& both, cudaStream_t stream);

// What one call of the forward (reads x, writes y and winners) or the backward (reads dy, winners and x, writes dx) must
// do, counted as lrn.cuh and maxpool.cuh do.
Cost lrn_maxpool_forward_cost(const MaxPool& pool, bool with_winners);
Cost lrn_maxpool_backward_cost(const MaxPool& pool);

}  // namespace pyalexnet
