// How the threads of a kernel without tiles (elementwise, a row a thread, ...) share out its items.
#pragma once

#include <algorithm>

#include "device/launch.cuh"
#include "device/vec.cuh"

namespace pyalexnet {

// The items (vectors, rows, pixels, ...) of [0, count) that the calling thread handles:
// for (int64_t i = share.begin; i < share.end; i += share.step).
struct ThreadShare {
  int64_t begin, end, step;
};

namespace detail {
// On a GPU neighbouring workers take neighbouring items, so that a warp's accesses coalesce; on CPU cores a worker
// takes one contiguous run, which is what caches and prefetchers like.
__device__ inline ThreadShare share_of_worker(int64_t count, int64_t worker, int64_t workers) {
  if constexpr (kRunsOnCores) {
    const int64_t run = ceil_div(count, workers);
    const int64_t begin = smaller(worker * run, count);
    return {begin, smaller(begin + run, count), 1};
  } else {
    return {worker, count, workers};
  }
}
}  // namespace detail

__device__ inline ThreadShare thread_share(int64_t count) {
  return detail::share_of_worker(count, int64_t{blockIdx.x} * blockDim.x + threadIdx.x,
                                 int64_t{gridDim.x} * blockDim.x);
}

// Blocks and threads for a kernel whose threads take their items from thread_share(). `bytes_per_item` is
// what one item moves; on CPU cores it sets how much work a block is worth.
inline Launch share_out(const char* kernel_name, int64_t count, int64_t bytes_per_item, cudaStream_t stream) {
  if constexpr (kRunsOnCores) {
    constexpr int64_t kBytesPerBlock = 64 * 1024;
    const int64_t blocks = std::clamp<int64_t>(count * bytes_per_item / kBytesPerBlock, 1, 1024);
    return {kernel_name, dim3(static_cast<unsigned>(blocks)), dim3(1), stream};
  }
  constexpr int64_t kThreads = 256, kMaxBlocks = 4096;
  const int64_t blocks = std::clamp<int64_t>(ceil_div(count, kThreads), 1, kMaxBlocks);
  return {kernel_name, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), stream};
}

// Calls body.template operator()<N>(i) for runs of N elements from i that together cover [0, count): vectors
// of kVectorFloats where `vectors` says that all arrays are aligned (see vectors_aligned), single elements elsewhere.
template <class Body>
__device__ inline void for_each_vector(int64_t count, bool vectors, Body body) {
  const int64_t whole = vectors ? count / kVectorFloats : 0;
  const ThreadShare mine = thread_share(whole);
  for (int64_t v = mine.begin; v < mine.end; v += mine.step) {
    body.template operator()<kVectorFloats>(v * kVectorFloats);
  }
  const int64_t tail = whole * kVectorFloats;
  const ThreadShare rest = thread_share(count - tail);
  for (int64_t i = rest.begin; i < rest.end; i += rest.step) body.template operator()<1>(tail + i);
}

// The launch for a kernel built on for_each_vector.
inline Launch share_out_vectors(const char* kernel_name, int64_t count, int64_t bytes_per_element,
                                cudaStream_t stream) {
  return share_out(kernel_name, ceil_div(count, kVectorFloats), kVectorFloats * bytes_per_element, stream);
}

}  // namespace pyalexnet
