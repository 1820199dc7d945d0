// Sums and maxima over a row that one block holds, in an order that never changes.
#pragma once

#include "device/launch.cuh"
#include "device/vec.cuh"

namespace pyalexnet {

// Threads of a block that reduces rows. One on CPU cores, where waiting for each other costs more than it
// brings.
inline constexpr int kRowThreads = kRunsOnCores ? 1 : 256;
static_assert(kRowThreads == 1 || kRowThreads % 32 == 0, "shuffles need whole warps");

// Neighbouring elements of a row that a thread takes at once. One on a GPU, where its threads are neighbours themselves.
inline constexpr int kRowLanes = kRunsOnCores ? kVectorFloats : 1;

// Calls body(first, lanes) for the runs of elements that the calling thread takes of a row: kRowLanes, or what is left.
template <class Body>
PYALEXNET_INLINE void for_each_run_of_row(int64_t columns, Body body) {
  for (int64_t first = threadIdx.x * kRowLanes; first < columns; first += kRowThreads * kRowLanes) {
    body(first, columns - first < kRowLanes ? static_cast<int>(columns - first) : kRowLanes);
  }
}

// Whether it takes a row's element.
PYALEXNET_INLINE bool takes_of_row(int64_t element) {
  return element / kRowLanes % kRowThreads == threadIdx.x;
}

// combine() over all lanes of all kRowThreads threads of the block; every thread gets the same bits, after a barrier.
// combine must be commutative. All threads must call.
template <class Combine>
PYALEXNET_INLINE float block_reduce(Vec<kRowLanes> lanes, Combine combine) {
  float value = lanes[0];
  for (int i = 1; i < kRowLanes; ++i) value = combine(value, lanes[i]);
  if constexpr (kRowThreads > 1) {
    constexpr int kWarp = 32, kWarps = ceil_div(kRowThreads, kWarp);
    __shared__ float warp_values[kWarps];
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    __syncthreads();  // the last reduction's values have been read
    if (threadIdx.x % kWarp == 0) warp_values[threadIdx.x / kWarp] = value;
    __syncthreads();
    value = warp_values[0];
    for (int warp = 1; warp < kWarps; ++warp) value = combine(value, warp_values[warp]);
  }
  return value;
}

}  // namespace pyalexnet
