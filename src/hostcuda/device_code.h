// What a kernel sees: CUDA's qualifiers, its built-in variables, barriers, shuffles, votes and a few intrinsics.
#pragma once

#include "kernel_context.h"
#include "vector_types.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
// A translation unit's own copy, as in CUDA without relocatable device code.
#define __constant__ static
// One block runs at a time on an OS thread, so what belongs to the OS thread belongs to the block.
// `extern __shared__` has no meaning to a C++ compiler: use hostcuda::dynamic_shared().
#define __shared__ static thread_local

#define threadIdx (::hostcuda::kernel_context().thread.index)
#define blockIdx (::hostcuda::kernel_context().block_index)
#define blockDim (::hostcuda::kernel_context().block_dim)
#define gridDim (::hostcuda::kernel_context().grid_dim)
inline constexpr int warpSize = 32;

// Barriers of the block. A thread that has returned counts as arrived.
inline void __syncthreads() {
  hostcuda::block_barrier(hostcuda::BlockBarrier::sync, 0);
}
inline int __syncthreads_count(int predicate) {
  return hostcuda::block_barrier(hostcuda::BlockBarrier::count, predicate != 0);
}
inline int __syncthreads_or(int predicate) {
  return hostcuda::block_barrier(hostcuda::BlockBarrier::any, predicate != 0);
}
inline int __syncthreads_and(int predicate) {
  return hostcuda::block_barrier(hostcuda::BlockBarrier::all, predicate != 0);
}

// Warp operations. Every live lane named in `mask` must call with the same mask, or the kernel fails.
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  hostcuda::warp_sync(mask);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return hostcuda::warp_ballot(mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, !predicate) == 0;
}

// The lanes that run together: here each lane runs alone between two warp operations.
inline unsigned __activemask() {
  return 1u << hostcuda::lane();
}

namespace hostcuda {

// The value `value` has in lane `source_lane`. All ones (a NaN, for a float) where that lane did not take part:
// CUDA leaves that value undefined, and a NaN is noticed.
template <class T>
T shuffle(unsigned mask, T value, unsigned source_lane) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA shuffles 4 or 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(warp_shuffle(mask, std::bit_cast<Bits>(value), source_lane)));
}

}  // namespace hostcuda

// A warp is cut into segments of `width` lanes (a power of two); a source outside the segment is the lane itself,
// except for __shfl_sync, whose source wraps around within the segment.
template <class T>
T __shfl_sync(unsigned mask, T value, int source_lane, int width = warpSize) {
  const unsigned segment = hostcuda::lane() & ~(width - 1u);
  return hostcuda::shuffle(mask, value, segment | (source_lane & (width - 1u)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const unsigned lane = hostcuda::lane(), offset = lane & (width - 1u);
  return hostcuda::shuffle(mask, value, delta > offset ? lane : lane - delta);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  const unsigned lane = hostcuda::lane(), offset = lane & (width - 1u);
  return hostcuda::shuffle(mask, value, delta >= width - offset ? lane : lane + delta);
}
// A source in a segment before the lane's own is read; one behind it is the lane itself (CUDA's rule).
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize) {
  const unsigned lane = hostcuda::lane(), source = lane ^ static_cast<unsigned>(lane_mask);
  const unsigned segment_end = (lane & ~(width - 1u)) + width;
  return hostcuda::shuffle(mask, value, source < segment_end ? source : lane);
}

inline float __uint_as_float(unsigned bits) {
  return std::bit_cast<float>(bits);
}
inline unsigned __float_as_uint(float value) {
  return std::bit_cast<unsigned>(value);
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<std::uint64_t>(a) * b) >> 32);
}

// 1 / sqrt(x).
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}

[[noreturn]] inline void __trap() {
  hostcuda::trap();
}
