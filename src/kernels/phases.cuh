// The gradient by the input of a convolution with a stride s above 1, as a convolution of stride 1.
//
// With padding p, row iy + p = q s + a of the padded image has phase a, and only the taps ky = a + j s see it, from output
// row oy = q - j. The same goes for columns. So a convolution of dy has a filter for each phase and channel,
//
//   phases[n, q, r, (a, b, c)] = sum over j,i,k of dy[n, q - j, r - i, k] w[a + j s, b + i s, c, k]
//   dx[n, iy, ix, c]           = phases[n, (iy + p) / s, (ix + p) / s, ((iy + p) % s, (ix + p) % s, c)]
//
// with zeros for taps behind the kernel: conv1's kernel of 11 taps has 3 for each phase of stride 4, one of 12 is 0, and
// its 3 channels become 48 columns of a product, which fill a tile. (dy spread out by the stride, zeros between its
// pixels, is 13 times the work, for 3 columns.) What is not finite in dy so reaches up to s - 1 pixels beyond its window.
#pragma once

#include <algorithm>

#include "kernels/conv.cuh"

namespace pyalexnet {

// Along one axis.
struct Phases {
  int64_t count;   // of phases that a tap sees; the others' pixels have a gradient of 0
  int64_t taps;    // of each
  int64_t first;   // quotient q of the first pixel
  int64_t extent;  // of quotients
};

// The same axis where the stride is 1: one phase, the kernel's taps, the image's pixels.
inline Phases phases_of(int64_t extent, int64_t kernel, int64_t stride, int64_t padding) {
  const int64_t first = padding / stride;
  return {std::min(stride, kernel), (kernel + stride - 1) / stride, first, (padding + extent - 1) / stride - first + 1};
}

struct StridedGradient {
  Phases down, across;
  int64_t groups, channels, filters;  // all groups together

  explicit StridedGradient(const ConvShape& s)
      : down(phases_of(s.height, s.kernel_height, s.stride, s.padding)),
        across(phases_of(s.width, s.kernel_width, s.stride, s.padding)),
        groups(s.groups),
        channels(s.channels),
        filters(s.filters) {}

  // Of the product: all groups' columns (group, a, b, channel of the group), and what one of them sums.
  __host__ __device__ int64_t columns() const { return down.count * across.count * channels; }
  __host__ __device__ int64_t terms() const { return down.taps * across.taps * (filters / groups); }
  int64_t pixels(int64_t batch) const { return batch * down.extent * across.extent; }
};

// w[ky, kx, channel of the group, (group, k)] as the right matrix of the product: rows (tap down, tap across, k), the
// last tap first, columns of StridedGradient.
void weights_by_phase(float* to, const float* w, const ConvShape& shape, cudaStream_t stream);

// dx from what the product gave, a row for each (image, q, r).
void pixels_of_phases(float* dx, const float* phases, const ConvShape& shape, cudaStream_t stream);

}  // namespace pyalexnet
