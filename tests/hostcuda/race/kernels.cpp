// Kernels for ThreadSanitizer: it has to report those named racy_…, and to accept those named clean_….
#include "../runner.h"

namespace {

constexpr unsigned full = 0xffffffffu;

// Each thread reads what its neighbour wrote.
template <bool BARRIER>
__global__ void shift_kernel(int* out) {
  __shared__ int tile[64];
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (BARRIER) __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = tile[(threadIdx.x + 1) % 64];
}

// Uses one tile again and again: the second barrier keeps fast threads from overwriting what slow ones still read.
template <bool SECOND_BARRIER>
__global__ void rounds_kernel(int* out) {
  __shared__ int tile[64];
  int sum = 0;
  for (int round = 0; round < 4; ++round) {
    tile[threadIdx.x] = round;
    __syncthreads();
    sum += tile[(threadIdx.x + 1) % 64];
    if (SECOND_BARRIER) __syncthreads();
  }
  out[blockIdx.x * 64 + threadIdx.x] = sum;
}

// A warp's threads exchange through memory: __syncwarp orders that, a shuffle does not.
template <bool SYNCWARP>
__global__ void warp_kernel(int* out) {
  __shared__ int tile[64];
  const unsigned t = threadIdx.x;
  tile[t] = static_cast<int>(t);
  if (SYNCWARP) {
    __syncwarp();
  } else {
    __shfl_sync(full, 1, 0);
  }
  out[blockIdx.x * 64 + t] = tile[t ^ 1];
}

__attribute__((noinline)) void increment(int* values, int count) {
  for (int i = 0; i < count; ++i) values[i] += 1;
}

template <class Kernel>
void run(Kernel kernel) {
  const DeviceArray<int> out(8 * 64);
  CHECK_CUDA(hostcuda::launch("kernel", 8, 64, 0, nullptr, [kernel, y = out.data] { kernel(y); }));
  CHECK_CUDA(hostcuda::launch("kernel", 8, 64, 0, nullptr, [kernel, y = out.data] { kernel(y); }));
  CHECK_CUDA(cudaDeviceSynchronize());
}

}  // namespace

TEST(clean_shift) {
  run(shift_kernel<true>);
}
TEST(racy_shift) {
  run(shift_kernel<false>);
}
TEST(clean_rounds) {
  run(rounds_kernel<true>);
}
TEST(racy_rounds) {
  run(rounds_kernel<false>);
}
TEST(clean_warp) {
  run(warp_kernel<true>);
}
TEST(racy_warp) {
  run(warp_kernel<false>);
}

// Locals whose address is taken lie on stacks that threads of one block must not share, and a failed block must leave
// the checker in order.
TEST(clean_stacks_and_failures) {
  for (int round = 0; round < 3; ++round) {
    CHECK_CUDA(hostcuda::launch("locals", 4, 64, 0, nullptr, [] {
      int locals[16] = {};
      increment(locals, 16);
      if (threadIdx.x % 2 == 0) __syncthreads();
      increment(locals, 16);
    }));
    CHECK_CUDA(cudaDeviceSynchronize());
    CHECK_CUDA(hostcuda::launch("failing", 4, 64, 0, nullptr, [] {
      __syncthreads();
      if (threadIdx.x == 40) __trap();
    }));
    CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  }
}
