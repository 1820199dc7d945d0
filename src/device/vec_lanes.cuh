// Operations on Vec<N> beyond arithmetic: comparing lanes, moving them across each other, roots.
#pragma once

#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "device/vec.cuh"

namespace pyalexnet {

// a where `x` beats `best`, else b, lane by lane: a greater number beats, and a NaN beats all but a NaN.
template <int N>
PYALEXNET_INLINE Vec<N> select_beating(Vec<N> x, Vec<N> best, Vec<N> a, Vec<N> b) {
#if defined(PYALEXNET_PLAIN_LANES)
  return detail::lanewise<N>([&](int i) {
    const bool stays = x.lanes[i] <= best.lanes[i] || best.lanes[i] != best.lanes[i];
    return stays ? b.lanes[i] : a.lanes[i];
  });
#else
  return {((x.lanes <= best.lanes) | (best.lanes != best.lanes)) ? b.lanes : a.lanes};
#endif
}

// a where x == y, else b, lane by lane.
template <int N>
PYALEXNET_INLINE Vec<N> select_equal(Vec<N> x, Vec<N> y, Vec<N> a, Vec<N> b) {
#if defined(PYALEXNET_PLAIN_LANES)
  return detail::lanewise<N>([&](int i) { return x.lanes[i] == y.lanes[i] ? a.lanes[i] : b.lanes[i]; });
#else
  return {(x.lanes == y.lanes) ? a.lanes : b.lanes};
#endif
}

// a where x < y, else b, lane by lane; b where one is NaN.
template <int N>
PYALEXNET_INLINE Vec<N> select_below(Vec<N> x, Vec<N> y, Vec<N> a, Vec<N> b) {
#if defined(PYALEXNET_PLAIN_LANES)
  return detail::lanewise<N>([&](int i) { return x.lanes[i] < y.lanes[i] ? a.lanes[i] : b.lanes[i]; });
#else
  return {(x.lanes < y.lanes) ? a.lanes : b.lanes};
#endif
}

// a where it is the greater, else b, lane by lane; b where one is NaN.
template <int N>
PYALEXNET_INLINE Vec<N> greater(Vec<N> a, Vec<N> b) {
#if defined(PYALEXNET_PLAIN_LANES)
  return detail::lanewise<N>([&](int i) { return a.lanes[i] > b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
#else
  return {a.lanes > b.lanes ? a.lanes : b.lanes};
#endif
}

// The greater of positive numbers, lane by lane; NaN where one is NaN.
template <int N>
PYALEXNET_INLINE Vec<N> greater_or_nan(Vec<N> a, Vec<N> b) {
  // As integers without a sign, whole bits are in the order of the numbers, and NaNs behind them.
  uint32_t a_bits[N], b_bits[N];
  std::memcpy(a_bits, &a.lanes, sizeof a_bits);
  std::memcpy(b_bits, &b.lanes, sizeof b_bits);
  PYALEXNET_UNROLL
  for (int i = 0; i < N; ++i) a_bits[i] = a_bits[i] > b_bits[i] ? a_bits[i] : b_bits[i];
  std::memcpy(&a.lanes, a_bits, sizeof a_bits);
  return a;
}

// Whether all lanes are below the limit; false where one is NaN.
template <int N>
PYALEXNET_INLINE bool all_below(Vec<N> value, float limit) {
#if !defined(PYALEXNET_PLAIN_LANES)
  if constexpr (N % 2 == 0) {
    const auto below = value.lanes < limit;  // all bits of a lane, or none
    uint64_t lanes[N / 2];
    std::memcpy(lanes, &below, sizeof lanes);
    uint64_t all = lanes[0];
    for (int i = 1; i < N / 2; ++i) all &= lanes[i];
    return all == UINT64_MAX;
  }
#endif
  bool all = true;
  for (int i = 0; i < N; ++i) all = all && value[i] < limit;
  return all;
}

namespace detail {
template <int I, int N>
PYALEXNET_INLINE float lane_of_three(const Vec<N>& before, const Vec<N>& here, const Vec<N>& after) {
  if constexpr (I < 0) {
    return before.lanes[N + I];
  } else if constexpr (I < N) {
    return here.lanes[I];
  } else {
    return after.lanes[I - N];
  }
}

template <int Distance, int N, int... Lane>
PYALEXNET_INLINE Vec<N> shifted(const Vec<N>& before, const Vec<N>& here, const Vec<N>& after,
                                std::integer_sequence<int, Lane...>) {
#if defined(PYALEXNET_PLAIN_LANES)
  return {{lane_of_three<Lane + Distance>(before, here, after)...}};
#else
  return {typename Vec<N>::Lanes{lane_of_three<Lane + Distance>(before, here, after)...}};
#endif
}
}  // namespace detail

// The N lanes that start `Distance` lanes behind the first one of `here` in the row before, here, after.
template <int Distance, int N>
PYALEXNET_INLINE Vec<N> shifted(const Vec<N>& before, const Vec<N>& here, const Vec<N>& after) {
  static_assert(-N <= Distance && Distance <= N, "the lanes must lie in the three vectors");
  // Compilers build some of these from single lanes.
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    const Vec<N>&low = Distance < 0 ? before : here, &high = Distance < 0 ? here : after;
    return {_mm512_castsi512_ps(_mm512_maskz_alignr_epi32(0xffff, _mm512_castps_si512(high.lanes),
                                                          _mm512_castps_si512(low.lanes), (Distance + N) % N))};
  }
#elif defined(__AVX2__)
  if constexpr (N == 8 && -4 < Distance && Distance < 4 && Distance != 0) {
    const __m256i low = _mm256_castps_si256(Distance < 0 ? before.lanes : here.lanes);
    const __m256i high = _mm256_castps_si256(Distance < 0 ? here.lanes : after.lanes);
    const __m256i middle = _mm256_permute2x128_si256(low, high, 0x21);  // the upper half of one, the lower of the other
    const __m256i lanes = Distance < 0 ? _mm256_alignr_epi8(high, middle, (16 + 4 * Distance) % 16)
                                       : _mm256_alignr_epi8(middle, low, 4 * Distance % 16);
    return {_mm256_castsi256_ps(lanes)};
  }
#endif
  return detail::shifted<Distance>(before, here, after, std::make_integer_sequence<int, N>());
}

// 1 / sqrt(a) to within two units in the last place.
template <int N>
PYALEXNET_INLINE Vec<N> rsqrt(Vec<N> a) {
#if defined(PYALEXNET_PLAIN_LANES)
  return detail::lanewise<N>([&](int i) { return rsqrtf(a.lanes[i]); });
#else
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    // The estimate is good to 14 bits; one step of Newton's method doubles them. (The intrinsic without a mask
    // passes an uninitialised vector, about which GCC 12 warns.)
    const Vec<N> estimate{_mm512_maskz_rsqrt14_ps(0xffff, a.lanes)};
    const Vec<N> half = broadcast<N>(0.5f) * a * estimate;
    return estimate * (broadcast<N>(1.5f) - half * estimate);
  }
#endif
  return broadcast<N>(1.0f) / sqrt(a);
#endif
}

}  // namespace pyalexnet
