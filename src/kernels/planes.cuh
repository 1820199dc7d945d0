// Where maps lie that a convolution multiplies number by number: each number of their transform in a plane of its own.
#pragma once

#include "device/platform.cuh"

namespace pyalexnet {

// A dense matrix for each plane and group of lanes, of `rows` rows, a map or a tile of each lane in one. So a product reads
// what lies together. From matrix to matrix it is an odd number of lines of 64 bytes, so that a map's planes are spread
// over all sets of a CPU core's caches.
struct PlaneLayout {
  int64_t rows, columns, groups;

  __host__ __device__ constexpr int64_t group_stride() const { return ((rows * columns + 15) / 16 | 1) * 16; }
  __host__ __device__ constexpr int64_t plane_stride() const { return groups * group_stride(); }
};

}  // namespace pyalexnet
