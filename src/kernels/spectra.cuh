// Spectra of images and of filters, in which a convolution is a product of numbers (kernels/fourier_conv.cuh).
//
// A map, one channel of one image, is put on a torus of N x N points, zeros around it, and transformed in both
// directions. What is real there has a Hermitian spectrum: of its columns 0 to N/2 are enough, and of the first and the
// last one the rows 0 to N/2, where four numbers are real:
//
//   4 real numbers and N^2/2 - 2 complex ones.
//
// A product of complex numbers takes three real products (Gauss, by way of Knuth, The Art of Computer Programming 2,
// section 4.6.4):
//
//   (a + ib)(c + id) = k1 - k3 + i(k1 + k2),   k1 = (a + b) c,   k2 = a (d - c),   k3 = b (c + d).
//
// So a complex number is stored as three floats, the ones that its side of the product needs, in planes of their own;
// a real number has one plane. What has been multiplied, plane by plane, and added up, is k1, k2, k3.
#pragma once

#include "kernels/planes.cuh"

namespace pyalexnet {

// The points a side that there are kernels for.
inline constexpr int kSpectrumPoints[] = {8, 14, 30};

__host__ __device__ constexpr int64_t planes_of(int64_t points) {
  return 4 + 3 * (points * points / 2 - 2);
}

// Along one direction, element i of `extent` is at the point (sign i + offset) mod N; sign is 1 or -1.
struct MapAxis {
  int extent;
  int sign, offset;
};

// Maps in memory: `count` times `lanes` of them, those of the lanes side by side, the lanes in `groups` of equal size.
// Strides are in floats.
template <class Float>
struct Maps {
  Float* data;
  int64_t count, lanes, groups;
  int64_t stride, row_stride, pixel_stride;
  MapAxis y, x;
};

enum class Side { kLeft, kRight };

// Spectra of maps, for their side of a product. The layout has the maps' groups, a group's lanes as columns, and rows for
// them, or more. `points` is one of kSpectrumPoints, and no less than either extent.
void to_spectra(float* spectra, const PlaneLayout& layout, int points, Side side, const Maps<const float>& maps,
                cudaStream_t stream);

// The maps whose spectra have these products: relu(map + bias), where a lane's bias is the same everywhere; nullptr for
// none.
void from_spectra(const Maps<float>& maps, int points, const float* products, const PlaneLayout& layout,
                  const float* bias, bool relu, cudaStream_t stream);

}  // namespace pyalexnet
