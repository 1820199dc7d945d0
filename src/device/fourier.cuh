// Discrete Fourier transforms of a few points, each element a vector of lanes: N real numbers x, and N/2 + 1 complex
// ones that tell them all, since the spectrum of real numbers is Hermitian,
//
//   X[k] = sum over j of x[j] e^(-2 pi i j k / N),   x[j] = 1/N sum over k of X[k] e^(2 pi i j k / N).
//
// For N = 14 and 30 a radix of two would leave 7 and 15 points. Sums of the terms as they are, folded twice, cost a
// quarter of the plain ones and less than all additions of a fast transform: x[j] and x[N-j] share their cosine, and
// terms of even and of odd j turn up with the same cosine, or its negative, in X[k] and X[N/2-k].
#pragma once

#include "device/vec.cuh"

namespace pyalexnet {

// cos and sin of 2 pi m / N.
template <int N>
struct Turns {
  float cosine[N], sine[N];

  constexpr Turns() : cosine(), sine() {
    for (int m = 0; m < N; ++m) {
      // Taylor's series, of angles from -pi to pi: the 26th term is below float64's rounding.
      const double angle = 2 * 3.141592653589793238 * (2 * m > N ? m - N : m) / N;
      double term = 1, sum_of_even = 0, sum_of_odd = 0;
      for (int n = 0; n < 32; ++n) {
        (n % 2 ? sum_of_odd : sum_of_even) += n % 4 < 2 ? term : -term;
        term *= angle / (n + 1);
      }
      cosine[m] = static_cast<float>(sum_of_even), sine[m] = static_cast<float>(sum_of_odd);
    }
  }
};

// X[0] to X[N/2]; im[0] and im[N/2] are zero, and not kept.
template <int N, int V>
struct HalfSpectrum {
  static_assert(N % 2 == 0, "the middle is a point of its own");
  static constexpr int kHalf = N / 2;
  Vec<V> re[kHalf + 1], im[kHalf];
};

namespace detail {

// sums[k] = terms[0] + (-1)^k terms[N/2] + sum over 0 < j < N/2 of terms[j] cos(2 pi j k / N), for k = 0 to N/2.
template <int N, int V>
PYALEXNET_INLINE void cosine_sums(Vec<V> (&sums)[N / 2 + 1], const Vec<V> (&terms)[N / 2 + 1]) {
  constexpr Turns<N> turns;
  constexpr int half = N / 2;
  PYALEXNET_UNROLL
  for (int k = 0; k <= half / 2; ++k) {
    Vec<V> even = terms[0], odd = broadcast<V>(turns.cosine[k]) * terms[1];
    PYALEXNET_UNROLL
    for (int j = 2; j <= half; ++j) {
      Vec<V>& sum = j % 2 ? odd : even;
      sum = fma(broadcast<V>(turns.cosine[j * k % N]), terms[j], sum);
    }
    sums[k] = even + odd;
    sums[half - k] = even - odd;
  }
}

// sums[k] = sum over 0 < j < N/2 of terms[j] sin(2 pi j k / N), for 0 < k < N/2.
template <int N, int V>
PYALEXNET_INLINE void sine_sums(Vec<V> (&sums)[N / 2], const Vec<V> (&terms)[N / 2]) {
  constexpr Turns<N> turns;
  constexpr int half = N / 2;
  PYALEXNET_UNROLL
  for (int k = 1; k <= half / 2; ++k) {
    Vec<V> odd = broadcast<V>(turns.sine[k]) * terms[1];
    Vec<V> even = broadcast<V>(turns.sine[2 * k % N]) * terms[2];
    PYALEXNET_UNROLL
    for (int j = 3; j < half; ++j) {
      Vec<V>& sum = j % 2 ? odd : even;
      sum = fma(broadcast<V>(turns.sine[j * k % N]), terms[j], sum);
    }
    sums[k] = odd + even;
    sums[half - k] = odd - even;
  }
}

}  // namespace detail

template <int N, int V>
PYALEXNET_INLINE HalfSpectrum<N, V> transform(const Vec<V> (&x)[N]) {
  constexpr int half = N / 2;
  Vec<V> sums[half + 1], differences[half], minus_im[half];
  sums[0] = x[0], sums[half] = x[half];
  PYALEXNET_UNROLL
  for (int j = 1; j < half; ++j) {
    sums[j] = x[j] + x[N - j];
    differences[j] = x[j] - x[N - j];
  }
  HalfSpectrum<N, V> spectrum;
  detail::cosine_sums<N, V>(spectrum.re, sums);
  detail::sine_sums<N, V>(minus_im, differences);
  PYALEXNET_UNROLL
  for (int k = 1; k < half; ++k) spectrum.im[k] = broadcast<V>(0.0f) - minus_im[k];
  return spectrum;
}

// N x. Of what lies between the first point and the middle, the spectrum holds twice the value.
template <int N, int V>
PYALEXNET_INLINE void transform_back(Vec<V> (&x)[N], const HalfSpectrum<N, V>& doubled) {
  constexpr int half = N / 2;
  Vec<V> cosines[half + 1], sines[half];
  detail::cosine_sums<N, V>(cosines, doubled.re);
  detail::sine_sums<N, V>(sines, doubled.im);
  x[0] = cosines[0], x[half] = cosines[half];
  PYALEXNET_UNROLL
  for (int j = 1; j < half; ++j) {
    x[j] = cosines[j] - sines[j];
    x[N - j] = cosines[j] + sines[j];
  }
}

// How a block shares out a map of so many points a side: kLanes of its channels, each thread kVector of them at a time.
#if defined(PYALEXNET_TARGET_CPU)
struct SpectrumTile {
  static constexpr int kVector = kVectorFloats, kLanes = kVectorFloats;
};
#else
// Eight lanes are a sector of memory, and 30 x 30 points of them fit into the shared memory that any GPU gives.
struct SpectrumTile {
  static constexpr int kVector = 1, kLanes = 8;
};
#endif

}  // namespace pyalexnet
