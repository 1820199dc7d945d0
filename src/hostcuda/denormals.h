// How a core's arithmetic treats denormal numbers.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace hostcuda {

// From now on they count as zero in the calling thread.
inline void flush_denormals_to_zero() {
#if defined(__x86_64__)
  constexpr unsigned kFlushToZero = 1 << 15, kDenormalsAreZero = 1 << 6;
  _mm_setcsr(_mm_getcsr() | kFlushToZero | kDenormalsAreZero);
#else
  constexpr std::uint64_t kFlushToZero = 1 << 24;
  std::uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" ::"r"(control | kFlushToZero));
#endif
}

}  // namespace hostcuda
