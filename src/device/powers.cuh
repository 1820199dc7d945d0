// Powers: of e, and the two that normalisations need, of positive numbers.
#pragma once

#include <cmath>

#include "device/vec_lanes.cuh"

namespace pyalexnet {

// e^x lane by lane, to within two units in the last place.
template <int N>
PYALEXNET_INLINE Vec<N> exp(Vec<N> x) {
#if defined(PYALEXNET_PLAIN_LANES)
  return detail::lanewise<N>([&](int i) { return expf(x.lanes[i]); });
#else
  // Beyond these, zero and infinity are already reached. A NaN stays.
  const Vec<N> least = broadcast<N>(-104.0f), most = broadcast<N>(89.0f);
  x = select_below(x, least, least, x);
  x = select_below(most, x, most, x);
  // x = n ln 2 + r with |r| at most ln 2 / 2. Adding 1.5 * 2^23 rounds to integers, which are then the lowest bits; the
  // first part of ln 2 has so few bits that its multiples are exact.
  constexpr float kRounder = 12582912.0f, kLog2E = 1.44269504f, kLn2 = 0.693359375f, kRestOfLn2 = -2.12194440e-4f;
  const Vec<N> rounded = fma(x, broadcast<N>(kLog2E), broadcast<N>(kRounder)), n = rounded - broadcast<N>(kRounder);
  const Vec<N> r = fma(n, broadcast<N>(-kRestOfLn2), fma(n, broadcast<N>(-kLn2), x));
  // Taylor's terms up to r^7 / 7!; the next is below 2^-27.
  Vec<N> power = broadcast<N>(1.0f / 5040);
  for (float coefficient : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f}) {
    power = fma(power, r, broadcast<N>(coefficient));
  }
  // 2^n in two factors, as n may lie beyond a float's exponents.
  typedef int32_t Integers __attribute__((vector_size(N * sizeof(int32_t))));
  constexpr int32_t kRounderBits = 0x4b400000, kBias = 127, kMantissaBits = 23;
  Integers exponent;
  std::memcpy(&exponent, &rounded.lanes, sizeof exponent);
  exponent -= kRounderBits;
  const Integers half = exponent >> 1;
  for (const Integers& part : {half, exponent - half}) {
    const Integers bits = (part + kBias) << kMantissaBits;
    Vec<N> factor;
    std::memcpy(&factor.lanes, &bits, sizeof bits);
    power = power * factor;
  }
  return power;
#endif
}

template <int N>
struct Powers {
  Vec<N> minus_beta, minus_beta_1;  // s^-beta and s^(-beta-1)
};

// For beta = 0.75, without a power function.
template <int N>
PYALEXNET_INLINE Powers<N> powers_of_three_quarters(const Vec<N>& s) {
  const Vec<N> inverse_root = rsqrt(s);
  const Vec<N> inverse = inverse_root * inverse_root;
  const Vec<N> minus_beta = inverse * rsqrt(inverse_root);
  return {minus_beta, minus_beta * inverse};
}

// For any beta.
template <int N>
PYALEXNET_INLINE Powers<N> powers(const Vec<N>& s, float beta) {
  if (beta == 0.75f) return powers_of_three_quarters(s);
  Powers<N> result{s, s};
  for (int i = 0; i < N; ++i) {
    result.minus_beta.set(i, powf(s[i], -beta));
    result.minus_beta_1.set(i, powf(s[i], -beta - 1.0f));
  }
  return result;
}

// a * s^exponent in float64; 0 where a is 0, however large the power of a positive s.
__device__ inline double times_power(double a, double s, double exponent) {
  return a == 0.0 && s > 0.0 ? 0.0 : a * pow(s, exponent);
}

}  // namespace pyalexnet
