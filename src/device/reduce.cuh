// Sums and maxima over a row that one block holds, in an order that never changes.
#pragma once

#include "device/launch.cuh"

namespace pyalexnet {

// Threads of a block that reduces rows. One on CPU cores, where waiting for each other costs more than it
// brings.
inline constexpr int kRowThreads = kRunsOnCores ? 1 : 256;
static_assert(kRowThreads == 1 || kRowThreads % 32 == 0, "shuffles need whole warps");

// combine() over the `value` of all kRowThreads threads of the block; every thread gets the same bits.
// combine must be commutative. All threads must call.
template <class Combine>
__device__ inline float block_reduce(float value, Combine combine) {
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
