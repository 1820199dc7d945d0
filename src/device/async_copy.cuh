// Copies from device to shared memory that go on while the thread that asked for them does (cp.async, sm_80 and newer).
//
// A thread's copies are in groups, which it closes; it waits until all but its last few groups are there. Other threads
// see what one has waited for behind a barrier. Until then shared memory holds what it held before: sim and ptx write
// when they must, so that a wait that is missing shows.
#pragma once

#include "device/platform.cuh"

namespace pyalexnet {

#if defined(__CUDACC__)

namespace detail {
PYALEXNET_INLINE unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
}  // namespace detail

// to[0..3] = `floats` of them from `from`, zeros behind. Both are aligned to 16 bytes.
PYALEXNET_INLINE void copy_quad_async(float* to, const float* from, int floats) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800  // elsewhere multiply_block ends before this
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(detail::shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(floats * 4)
               : "memory");
#endif
}

// *to = *from, or zero.
PYALEXNET_INLINE void copy_float_async(float* to, const float* from, bool there) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(detail::shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(there ? 4 : 0)
               : "memory");
#endif
}

// The copies asked for since the last call are a group, which may be empty.
PYALEXNET_INLINE void close_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until all of the thread's groups but the last `groups` are there.
template <int groups>
PYALEXNET_INLINE void wait_for_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
#endif
}

#else

inline void copy_quad_async(float* to, const float* from, int floats) {
  hostcuda::copy_async(to, from, 4, floats);
}
inline void copy_float_async(float* to, const float* from, bool there) {
  hostcuda::copy_async(to, from, 1, there ? 1 : 0);
}
inline void close_copies() {
  hostcuda::close_copies();
}
template <int groups>
void wait_for_copies() {
  hostcuda::wait_for_copies(groups);
}

#endif

}  // namespace pyalexnet
