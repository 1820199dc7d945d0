#include "kernels/lrn.cuh"

#include <cfloat>
#include <cmath>

#include "device/powers.cuh"
#include "device/rows.cuh"

namespace pyalexnet {

namespace {

// The paper's window and exponent, for which the kernels on vectors are written.
constexpr int kRadius = 2;
constexpr float kBeta = 0.75f;

// Calls body(row, first, end) for each run of channels [first, end) that the calling thread handles.
template <class Body>
__device__ inline void for_each_run(const Lrn& p, Body body) {
  constexpr int64_t kRun = kVectorsPerThread * kVectorFloats;
  const int64_t runs = ceil_div(p.channels, kRun);
  const ThreadShare share = thread_share(p.rows * runs);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const Split item = split(i, runs);
    const int64_t first = item.remainder * kRun;
    body(item.quotient, first, first + kRun < p.channels ? first + kRun : p.channels);
  }
}

template <int N>
__device__ inline Vec<N> window_sum(const Vec<N>& before, const Vec<N>& here, const Vec<N>& after) {
  static_assert(kRadius == 2, "the sum names its five terms");
  return shifted<-2>(before, here, after) + shifted<-1>(before, here, after) + here + shifted<1>(before, here, after) +
         shifted<2>(before, here, after);
}

// The squares of one vector of a pixel's channels; 0 outside of the pixel.
template <int N, bool aligned>
__device__ inline Vec<N> squares(const float* x, int64_t channel, int64_t channels) {
  if (channel < 0 || channel >= channels) return broadcast<N>(0.0f);
  const Vec<N> value = load_lanes<N>(x + channel, N, aligned);
  return value * value;
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
// float64.
__device__ inline float exact_backward(float in_float32, const float* dy, const float* x, int64_t i, const Lrn& p) {
  const Normalisation& n = p.normalisation;
  const Window window = window_around(i, n.behind(), n.before(), p.channels);
  double spread = 0.0;
  bool small = true;
  for (int64_t j = window.begin; j < window.end; ++j) {
    const double base = exact_base(x, j, p);
    small = small && base < n.largest_base;
    spread += times_power(static_cast<double>(dy[j]) * x[j], base, -1.0 - n.beta);
  }
  if (small && fabs(spread) < kLargestSpread) return in_float32;
  const double direct = times_power(dy[i], exact_base(x, i, p), -n.beta);
  return static_cast<float>(direct - 2.0 * n.alpha * n.beta * x[i] * spread);
}

template <bool aligned>
__global__ void lrn_forward_kernel(float* y, int64_t y_pitch, const float* x, Lrn p) {
  constexpr int N = kVectorFloats;
  const Normalisation& n = p.normalisation;
  const Vec<N> alpha = broadcast<N>(n.alpha), k = broadcast<N>(n.k);
  Vec<N> largest = broadcast<N>(0.0f);
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const float* const pixel = x + row * p.channels;
    Vec<N> before = squares<N, aligned>(pixel, first - N, p.channels);
    Vec<N> here = squares<N, aligned>(pixel, first, p.channels);
    for (int64_t c = first; c < end; c += N) {
      const Vec<N> after = squares<N, aligned>(pixel, c + N, p.channels);
      const Vec<N> s = fma(alpha, window_sum(before, here, after), k);
      largest = greater(s, largest);
      const Vec<N> x_here = load_lanes<N>(pixel + c, N, aligned);
      store_lanes(y + row * y_pitch + c, x_here * powers_of_three_quarters(s).minus_beta, N, aligned);
      before = here, here = after;
    }
  });
  if (all_below(largest, n.largest_base)) return;
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const float* const pixel = x + row * p.channels;
    for (int64_t c = first; c < end; ++c) {
      const double base = exact_base(pixel, c, p);
      if (!(base < n.largest_base)) y[row * y_pitch + c] = exact_forward(pixel, c, base, p);
    }
  });
}

// What backward needs of the channels around one: s^-beta, and dy x s^(-beta-1), which it sums over windows; NaN where
// s is not below the largest base.
template <int N>
struct BackwardTerms {
  Vec<N> scale, weighted;
};
template <int N, bool aligned>
__device__ inline BackwardTerms<N> backward_terms(const float* dy, const float* x, int64_t channel, const Lrn& p) {
  if (channel < 0 || channel >= p.channels) return {broadcast<N>(0.0f), broadcast<N>(0.0f)};
  const Normalisation& n = p.normalisation;
  const Vec<N> sum =
      window_sum(squares<N, aligned>(x, channel - N, p.channels), squares<N, aligned>(x, channel, p.channels),
                 squares<N, aligned>(x, channel + N, p.channels));
  const Vec<N> s = fma(broadcast<N>(n.alpha), sum, broadcast<N>(n.k));
  const Powers<N> power = powers_of_three_quarters(s);
  const Vec<N> product = load_lanes<N>(dy + channel, N, aligned) * load_lanes<N>(x + channel, N, aligned);
  return {power.minus_beta,
          select_below(s, broadcast<N>(n.largest_base), product * power.minus_beta_1, broadcast<N>(NAN))};
}

template <bool aligned>
__global__ void lrn_backward_kernel(float* dx, const float* dy, int64_t dy_pitch, const float* x, Lrn p) {
  constexpr int N = kVectorFloats;
  const Normalisation& n = p.normalisation;
  const Vec<N> factor = broadcast<N>(-2.0f * n.alpha * kBeta), zero = broadcast<N>(0.0f);
  const Vec<N> overflowing = broadcast<N>(FLT_MAX / kLargestSpread);
  Vec<N> all_small = zero;  // NaN once a sum was NaN or so large that this makes it infinite
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const float* const dy_pixel = dy + row * dy_pitch;
    const float* const x_pixel = x + row * p.channels;
    BackwardTerms<N> before = backward_terms<N, aligned>(dy_pixel, x_pixel, first - N, p);
    BackwardTerms<N> here = backward_terms<N, aligned>(dy_pixel, x_pixel, first, p);
    for (int64_t c = first; c < end; c += N) {
      const BackwardTerms<N> after = backward_terms<N, aligned>(dy_pixel, x_pixel, c + N, p);
      const Vec<N> spread = window_sum(before.weighted, here.weighted, after.weighted);
      const Vec<N> x_here = load_lanes<N>(x_pixel + c, N, aligned);
      const Vec<N> dy_here = load_lanes<N>(dy_pixel + c, N, aligned);
      const Vec<N> gradient = fma(factor * x_here, spread, dy_here * here.scale);
      const Vec<N> result = p.x_from_relu ? select_positive(x_here, gradient, zero) : gradient;
      all_small = fma(spread * overflowing, zero, all_small);
      store_lanes(dx + row * p.channels + c, result, N, aligned);
      before = here, here = after;
    }
  });
  if (all_below(all_small, 1.0f)) return;
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const float* const x_pixel = x + row * p.channels;
    for (int64_t c = first; c < end; ++c) {
      float& to = dx[row * p.channels + c];
      if (!p.x_from_relu || x_pixel[c] > 0.0f) to = exact_backward(to, dy + row * dy_pitch, x_pixel, c, p);
    }
  });
}

__device__ inline float base_of(const float* x, int64_t i, const Lrn& p) {
  const Normalisation& n = p.normalisation;
  const Window window = window_around(i, n.before(), n.behind(), p.channels);
  float sum = 0.0f;
  for (int64_t j = window.begin; j < window.end; ++j) sum += x[j] * x[j];
  return n.k + n.alpha * sum;
}

// Any window, exponent and number of channels, an element a thread.
__global__ void lrn_forward_general_kernel(float* y, int64_t y_pitch, const float* x, Lrn p) {
  const Normalisation& n = p.normalisation;
  const ThreadShare share = thread_share(p.rows * p.channels);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const Split element = split(i, p.channels);
    const int64_t channel = element.remainder;
    const float* const pixel = x + element.quotient * p.channels;
    const float s = base_of(pixel, channel, p);
    y[element.quotient * y_pitch + channel] = s < n.largest_base
                                                  ? pixel[channel] * powf(s, -n.beta)
                                                  : exact_forward(pixel, channel, exact_base(pixel, channel, p), p);
  }
}

__global__ void lrn_backward_general_kernel(float* dx, const float* dy, int64_t dy_pitch, const float* x, Lrn p) {
  const Normalisation& n = p.normalisation;
  const ThreadShare share = thread_share(p.rows * p.channels);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const Split element = split(i, p.channels);
    const int64_t channel = element.remainder;
    const float* const dy_pixel = dy + element.quotient * dy_pitch;
    const float* const x_pixel = x + element.quotient * p.channels;
    const Window window = window_around(channel, n.behind(), n.before(), p.channels);
    float spread = 0.0f;
    for (int64_t j = window.begin; j < window.end; ++j) {
      const float s = base_of(x_pixel, j, p);
      spread += s < n.largest_base ? dy_pixel[j] * x_pixel[j] * powf(s, -n.beta - 1.0f) : NAN;
    }
    const float s = base_of(x_pixel, channel, p);
    float gradient = dy_pixel[channel] * powf(s, -n.beta) - 2.0f * n.alpha * n.beta * x_pixel[channel] * spread;
    if (!(fabsf(spread) < kLargestSpread)) gradient = exact_backward(gradient, dy_pixel, x_pixel, channel, p);
    dx[i] = p.x_from_relu && !(x_pixel[channel] > 0.0f) ? 0.0f : gradient;
  }
}

void check(const Lrn& p, const char* pitch_name, int64_t pitch) {
  require(p.rows >= 1 && p.channels >= 1, "x has ", p.rows, " rows and ", p.channels,
          " channels; it must have at least one of each");
  require(pitch >= p.channels, pitch_name, " is ", pitch, "; it must be at least the ", p.channels, " channels");
}

bool suits_vectors(const Lrn& p) {
  return p.normalisation.is_paper_window() && p.channels % kVectorFloats == 0;
}

Launch over_runs(const char* kernel_name, const Lrn& p, int64_t arrays, cudaStream_t stream) {
  constexpr int64_t kRun = kVectorsPerThread * kVectorFloats;
  const int64_t run = p.channels < kRun ? p.channels : kRun;
  return share_out(kernel_name, p.rows * ceil_div(p.channels, kRun), arrays * 4 * run, stream);
}

// Vectors whose memory is not aligned are read and written by lanes, and computed with as others are.
template <bool aligned>
void forward_on_vectors(float* y, int64_t y_pitch, const float* x, const Lrn& lrn, cudaStream_t stream) {
  launch<lrn_forward_kernel<aligned>>(over_runs("lrn_forward_kernel", lrn, 2, stream), y, y_pitch, x, lrn);
}
template <bool aligned>
void backward_on_vectors(float* dx, const float* dy, int64_t dy_pitch, const float* x, const Lrn& lrn,
                         cudaStream_t stream) {
  launch<lrn_backward_kernel<aligned>>(over_runs("lrn_backward_kernel", lrn, 3, stream), dx, dy, dy_pitch, x, lrn);
}

}  // namespace

void lrn_forward(float* y, int64_t y_pitch, const float* x, const Lrn& lrn, cudaStream_t stream) {
  check(lrn, "y_pitch", y_pitch);
  if (suits_vectors(lrn)) {
    const bool aligned = vectors_aligned(y, y_pitch) && vectors_aligned(x);
    (aligned ? &forward_on_vectors<true> : &forward_on_vectors<kRunsOnCores>)(y, y_pitch, x, lrn, stream);
  } else {
    launch<lrn_forward_general_kernel>(share_out("lrn_forward_general_kernel", lrn.rows * lrn.channels, 2 * 4, stream),
                                       y, y_pitch, x, lrn);
  }
}

void lrn_backward(float* dx, const float* dy, int64_t dy_pitch, const float* x, const Lrn& lrn, cudaStream_t stream) {
  check(lrn, "dy_pitch", dy_pitch);
  if (suits_vectors(lrn)) {
    const bool aligned = vectors_aligned(dx) && vectors_aligned(dy, dy_pitch) && vectors_aligned(x);
    (aligned ? &backward_on_vectors<true> : &backward_on_vectors<kRunsOnCores>)(dx, dy, dy_pitch, x, lrn, stream);
  } else {
    launch<lrn_backward_general_kernel>(
        share_out("lrn_backward_general_kernel", lrn.rows * lrn.channels, 3 * 4, stream), dx, dy, dy_pitch, x, lrn);
  }
}

Cost lrn_forward_cost(int64_t rows, int64_t channels) {
  const int64_t elements = rows * channels;
  constexpr int64_t kSquareWindowScalePowerProduct = 1 + 2 + 2 + 1 + 1;
  return {kSquareWindowScalePowerProduct * elements, 2 * 4 * elements};
}

Cost lrn_backward_cost(int64_t rows, int64_t channels) {
  const int64_t elements = rows * channels;
  constexpr int64_t kSquareWindowScalePowers = 1 + 2 + 2 + 2, kTermWindowResult = 2 + 2 + 4;
  return {(kSquareWindowScalePowers + kTermWindowResult) * elements, 3 * 4 * elements};
}

}  // namespace pyalexnet
