// How kernels are launched.
#pragma once

#include <type_traits>

#include "device/check.h"
#include "device/platform.cuh"

namespace pyalexnet {

struct Launch {
  const char* kernel_name;
  dim3 blocks;
  dim3 threads;
  cudaStream_t stream;
  size_t shared_bytes = 0;  // of dynamic shared memory, for shared_memory()
};

namespace detail {
// Of dynamic shared memory that a block of any GPU may have.
inline constexpr size_t kSharedBytesByDefault = size_t{48} << 10;

template <class Kernel>
struct Launcher;

template <class... Params>
struct Launcher<void (*)(Params...)> {
  template <void (*kernel)(Params...)>
  static void run(const Launch& launch, Params... params) {
#if defined(__CUDACC__)
    if (launch.shared_bytes > kSharedBytesByDefault) {  // more must be asked for
      const auto bytes = static_cast<int>(launch.shared_bytes);
      check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), launch.kernel_name);
    }
    kernel<<<launch.blocks, launch.threads, launch.shared_bytes, launch.stream>>>(params...);
    const cudaError_t code = cudaGetLastError();
#else
    const cudaError_t code = hostcuda::launch(launch.kernel_name, launch.blocks, launch.threads, launch.shared_bytes,
                                              launch.stream, [params...] { kernel(params...); });
#endif
    check_cuda(code, launch.kernel_name);
  }
};
}  // namespace detail

// launch<relu_kernel>({"relu_kernel", blocks, threads, stream}, y, x, count): asynchronous. The kernel is a
// template argument so that on CPU cores it is inlined into the loop over a block's threads.
// Throws CudaError naming the kernel when the launch itself is refused.
template <auto kernel, class... Args>
void launch(const Launch& how, const Args&... args) {
  detail::Launcher<decltype(kernel)>::template run<kernel>(how, args...);
}

// The block's dynamic shared memory as a T (at most what Launch::shared_bytes asked for), for kernels whose shared
// memory is more than a small array: CPU cores keep it in large pages.
template <class T>
PYALEXNET_INLINE T& shared_memory() {
#if defined(__CUDACC__)
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return *reinterpret_cast<T*>(dynamic_shared_bytes);
#else
  return *hostcuda::dynamic_shared<T>();
#endif
}

__host__ __device__ constexpr int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// Integer ceiling of a / b for a >= 0, b > 0.
template <class Integer>
__host__ __device__ constexpr Integer ceil_div(Integer a, std::type_identity_t<Integer> b) {
  return (a + b - 1) / b;
}

}  // namespace pyalexnet
