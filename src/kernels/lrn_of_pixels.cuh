// Local response normalisation of runs of a pixel's channels, as lrn.cuh has the formulas: what the kernels share that
// write the normalised map (lrn.cu) and those that pool it on the way (lrn_maxpool.cu). Vectors for the paper's window and
// exponent; and the formula in float64, an element at a time, where float32 is too small.
#pragma once

#include <cfloat>
#include <cmath>

#include "device/powers.cuh"
#include "kernels/lrn.cuh"

namespace pyalexnet {

// The paper's window and exponent.
inline constexpr int kLrnRadius = 2;
inline constexpr float kLrnBeta = 0.75f;

// The sum over the window of each lane of `here`.
template <int N>
__device__ inline Vec<N> window_sum(const Vec<N>& before, const Vec<N>& here, const Vec<N>& after) {
  static_assert(kLrnRadius == 2, "the sum names its five terms");
  return shifted<-2>(before, here, after) + shifted<-1>(before, here, after) + here + shifted<1>(before, here, after) +
         shifted<2>(before, here, after);
}

// One vector of a pixel's channels; 0 outside of the pixel.
template <int N, bool aligned>
__device__ inline Vec<N> vector_at(const float* x, int64_t channel, int64_t channels) {
  if (channel < 0 || channel >= channels) return broadcast<N>(0.0f);
  return load_lanes<N>(x + channel, N, aligned);
}

// s of channel i of a pixel, in float64.
__device__ inline double exact_base(const float* x, int64_t i, const Lrn& p) {
  const Normalisation& n = p.normalisation;
  const Window window = window_around(i, n.before(), n.behind(), p.channels);
  double sum = 0.0;
  for (int64_t j = window.begin; j < window.end; ++j) sum += static_cast<double>(x[j]) * x[j];
  return n.k + n.alpha * sum;
}

// y of channel i of a pixel by the formula in float64, of which s is known to be `base`.
__device__ inline float exact_forward(const float* x, int64_t i, double base, const Lrn& p) {
  return static_cast<float>(times_power(x[i], base, -p.normalisation.beta));
}

// dx of channel i of a pixel: what float32 gave where nothing on the way was too large for it, else by the formula in
// float64. dy_of(j) is dy of channel j.
template <class DyOf>
__device__ inline float exact_backward(float in_float32, DyOf dy_of, const float* x, int64_t i, const Lrn& p) {
  const Normalisation& n = p.normalisation;
  const Window window = window_around(i, n.behind(), n.before(), p.channels);
  double spread = 0.0;
  bool small = true;
  for (int64_t j = window.begin; j < window.end; ++j) {
    const double base = exact_base(x, j, p);
    small = small && base < n.largest_base;
    spread += times_power(static_cast<double>(dy_of(j)) * x[j], base, -1.0 - n.beta);
  }
  if (small && fabs(spread) < kLargestSpread) return in_float32;
  const double direct = times_power(dy_of(i), exact_base(x, i, p), -n.beta);
  return static_cast<float>(direct - 2.0 * n.alpha * n.beta * x[i] * spread);
}

// s from the squares of the channels and of those around them.
template <int N>
__device__ inline Vec<N> base(const Vec<N>& before, const Vec<N>& here, const Vec<N>& after, const Normalisation& n) {
  return fma(broadcast<N>(n.alpha), window_sum(before, here, after), broadcast<N>(n.k));
}

// Calls give(channel, y) for the vectors of a pixel's channels [first, end) in order, y as float32 has it. `largest`
// takes up the largest s, or NaN where one is.
template <int N, bool aligned, class Give>
PYALEXNET_INLINE void normalise_run(const float* x, int64_t first, int64_t end, const Lrn& p, Vec<N>& largest,
                                    Give give) {
  Vec<N> x_before = vector_at<N, aligned>(x, first - N, p.channels),
         x_here = vector_at<N, aligned>(x, first, p.channels);
  Vec<N> before = x_before * x_before, here = x_here * x_here;
  for (int64_t c = first; c < end; c += N) {
    const Vec<N> x_after = vector_at<N, aligned>(x, c + N, p.channels);
    const Vec<N> after = x_after * x_after;
    const Vec<N> s = base(before, here, after, p.normalisation);
    largest = greater_or_nan(s, largest);
    give(c, x_here * powers_of_three_quarters(s).minus_beta);
    before = here, here = after, x_here = x_after;
  }
}

// y of a vector of a pixel's channels, right for all x.
template <int N>
__device__ inline Vec<N> exact_vector(const float* x, int64_t first, const Lrn& p) {
  Vec<N> y, largest = broadcast<N>(0.0f);
  normalise_run<N, true>(x, first, first + N, p, largest, [&](int64_t, Vec<N> value) { y = value; });
  if (all_below(largest, p.normalisation.largest_base)) return y;
  PYALEXNET_UNROLL
  for (int i = 0; i < N; ++i) {
    const double base = exact_base(x, first + i, p);
    if (base >= p.normalisation.largest_base) y.set(i, exact_forward(x, first + i, base, p));
  }
  return y;
}

// What backward makes of a vector of channels for them and for those around them: dy s^-beta, and dy x s^(-beta-1), which
// it sums over windows; NaN where s is not below the largest base.
template <int N>
struct BackwardTerms {
  Vec<N> direct, weighted;
};

// Calls give(channel, dx) for the vectors of a pixel's channels [first, end) in order, dx as float32 has it; dy_of(channel)
// is dy's vector there, which is asked for from one vector before the run to one behind it, where the pixel has these.
// `all_small` becomes NaN once a sum was NaN or too large.
template <int N, bool aligned, class DyOf, class Give>
PYALEXNET_INLINE void denormalise_run(DyOf dy_of, const float* x, int64_t first, int64_t end, const Lrn& p,
                                      Vec<N>& all_small, Give give) {
  const Normalisation& n = p.normalisation;
  const Vec<N> factor = broadcast<N>(-2.0f * n.alpha * kLrnBeta), zero = broadcast<N>(0.0f);
  const Vec<N> overflowing = broadcast<N>(FLT_MAX / kLargestSpread);
  const auto x_at = [&](int64_t c) { return vector_at<N, aligned>(x, c, p.channels); };
  const auto terms_of = [&](int64_t c, Vec<N> x_here, Vec<N> before, Vec<N> here, Vec<N> after) -> BackwardTerms<N> {
    if (c < 0 || c >= p.channels) return {zero, zero};
    const Vec<N> s = base(before, here, after, n), dy = dy_of(c);
    const Powers<N> power = powers_of_three_quarters(s);
    return {dy * power.minus_beta,
            select_below(s, broadcast<N>(n.largest_base), dy * x_here * power.minus_beta_1, broadcast<N>(NAN))};
  };
  const Vec<N> x_first = x_at(first - N);
  Vec<N> x_here = x_at(first), x_after = x_at(first + N);
  Vec<N> squared_here = x_here * x_here, squared_after = x_after * x_after;
  const Vec<N> x_outer = x_at(first - 2 * N);
  BackwardTerms<N> before = terms_of(first - N, x_first, x_outer * x_outer, x_first * x_first, squared_here);
  BackwardTerms<N> here = terms_of(first, x_here, x_first * x_first, squared_here, squared_after);
  for (int64_t c = first; c < end; c += N) {
    const Vec<N> x_behind = x_at(c + 2 * N), squared_behind = x_behind * x_behind;
    const BackwardTerms<N> after = terms_of(c + N, x_after, squared_here, squared_after, squared_behind);
    const Vec<N> spread = window_sum(before.weighted, here.weighted, after.weighted);
    const Vec<N> gradient = fma(factor * x_here, spread, here.direct);
    all_small = fma(spread * overflowing, zero, all_small);
    give(c, p.x_from_relu ? select_positive(x_here, gradient, zero) : gradient);
    before = here, here = after;
    x_here = x_after, x_after = x_behind;
    squared_here = squared_after, squared_after = squared_behind;
  }
}

}  // namespace pyalexnet
