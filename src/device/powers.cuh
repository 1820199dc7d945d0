// The two powers that normalisations need, of positive numbers.
#pragma once

#include <cmath>

#include "device/vec_lanes.cuh"

namespace pyalexnet {

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
