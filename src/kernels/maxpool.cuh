// Max pooling over overlapping windows (Krizhevsky et al. 2012, section 3.4: kernel 3, stride 2).
//
//   forward    y[n, oy, ox, c]  = max of x[n, iy, ix, c] over the window iy in [oy·stride - padding, ... +
//   kernel), ix alike backward   dx[n, iy, ix, c] = sum of dy[n, oy, ox, c] over the windows whose maximum is
//   x[n, iy, ix, c]
//
// Padding takes no part: a window is its pixels inside of the image, of which there is always one, since padding is
// smaller than the kernel. A window with a NaN gives NaN. Among equals the first in row-major order is the maximum,
// among NaNs the first NaN. Backward finds the maxima again from x, and each dx sums its windows in row-major order, so
// no atomics and always the same bits.
//
// x and dx are images × height × width × channels, contiguous. y and dy are images × output height × output
// width pixels that lie `pitch` >= channels floats apart, so that a tower can write its slice of a joint
// array. dx is written everywhere. All arrays lie on the stream's device and do not overlap.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

struct MaxPool {
  int64_t images, height, width, channels;
  int64_t kernel = 3, stride = 2, padding = 0;
  bool x_from_relu = false;  // backward goes on through the ReLU that made x: dx is 0 where x is not positive

  __host__ __device__ int64_t output_height() const { return (height + 2 * padding - kernel) / stride + 1; }
  __host__ __device__ int64_t output_width() const { return (width + 2 * padding - kernel) / stride + 1; }
  // Elements of x, and of y.
  __host__ __device__ int64_t inputs() const { return images * height * width * channels; }
  __host__ __device__ int64_t outputs() const { return images * output_height() * output_width() * channels; }
};

// All throw std::invalid_argument for counts below 1, padding as large as the kernel, a kernel larger than the
// padded image and a pitch below channels.
void check_maxpool(const MaxPool& pool);
void check_pitch(const char* name, int64_t pitch, const MaxPool& pool);
void maxpool_forward(float* y, int64_t y_pitch, const float* x, const MaxPool& pool, cudaStream_t stream);
void maxpool_backward(float* dx, const float* dy, int64_t dy_pitch, const float* x, const MaxPool& pool,
                      cudaStream_t stream);

// The same where forward keeps which pixels won, a byte each as window_gradient.cuh tells, so that backward need neither find
// the maxima again nor read x: for windows of 3 × 3 at stride 2 without padding over channels that fill vectors. Both throw
// std::invalid_argument for others, and on GPUs for floats that are not aligned to 16 bytes or winners that are not to 4.
// Forward too is told whether x came from a ReLU: then nothing goes back to a maximum that is not positive.
bool keeps_winners(const MaxPool& pool);
void maxpool_forward_with_winners(float* y, int64_t y_pitch, uint8_t* winners, const float* x, const MaxPool& pool,
                                  cudaStream_t stream);
void maxpool_backward_by_winners(float* dx, const float* dy, int64_t dy_pitch, const uint8_t* winners,
                                 const MaxPool& pool, cudaStream_t stream);

// What one call of the forward (reads x, writes y) or the backward (reads dy and x, writes dx) must do: a
// comparison for each pixel of each window.
Cost maxpool_forward_cost(const MaxPool& pool);
Cost maxpool_backward_cost(const MaxPool& pool);
// Likewise where winners are written, and where they are read with dy alone.
Cost maxpool_forward_with_winners_cost(const MaxPool& pool);
Cost maxpool_backward_by_winners_cost(const MaxPool& pool);

}  // namespace pyalexnet
