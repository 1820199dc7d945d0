// What the operands of a product are rounded to before they are multiplied. Products are exact in float32 then, and so
// are all sums kept, whichever precision.
//
//   fp32    as they are
//   tf32    11 bits of significand, float32's exponents: relative error at most 2^-11
//   bf16    8 bits, float32's exponents: at most 2^-8
//   tf32x3  the sum of two tf32, high and low, so that a b = high high + (high low + low high); what is left out is at most
//           2^-19.6 of the product: the low parts' product and what is behind them
//
// All round to nearest, ties to even, as the conversions of sm_90 do. NaN stays NaN; what is beyond the largest number
// becomes infinite, and in tf32x3 infinity becomes NaN.
#pragma once

#include <bit>
#include <string>
#include <string_view>

#include "device/platform.cuh"

namespace pyalexnet {

enum class Precision { kFp32, kTf32, kBf16, kTf32x3 };

inline constexpr std::string_view kPrecisionNames[] = {"fp32", "tf32", "bf16", "tf32x3"};

inline std::string precision_name(Precision precision) {
  return std::string(kPrecisionNames[static_cast<int>(precision)]);
}

// Terms of a sum that lie in one word of 32 bits.
__host__ __device__ constexpr int terms_per_word(Precision precision) {
  return precision == Precision::kBf16 ? 2 : 1;
}

namespace detail {

__host__ __device__ inline unsigned bits_of(float value) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(value);
#else
  return std::bit_cast<unsigned>(value);
#endif
}

__host__ __device__ inline float float_of(unsigned bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

}  // namespace detail

__host__ __device__ inline float round_to_bf16(float value) {
  const unsigned bits = detail::bits_of(value);
  const unsigned rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  return detail::float_of(value == value ? rounded : 0x7fff0000u);
}

__host__ __device__ inline float round_to_tf32(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  unsigned word;
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(word) : "f"(value));
  return __uint_as_float(word);
#else
  const unsigned bits = detail::bits_of(value);
  const unsigned rounded = (bits + 0xfffu + (bits >> 13 & 1u)) & 0xffffe000u;
  return detail::float_of(value == value ? rounded : 0x7fffe000u);
#endif
}

// A word of two: `low` in its lower half.
__host__ __device__ inline float bf16_word(float low, float high) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return __uint_as_float(word);
#else
  return detail::float_of(detail::bits_of(round_to_bf16(low)) >> 16 | detail::bits_of(round_to_bf16(high)));
#endif
}

}  // namespace pyalexnet
