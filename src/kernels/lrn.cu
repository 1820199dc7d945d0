#include "kernels/lrn.cuh"

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
template <int N>
__device__ inline Vec<N> squares(const float* x, int64_t channel, int64_t channels) {
  if (channel < 0 || channel >= channels) return broadcast<N>(0.0f);
  const Vec<N> value = load<N>(x + channel);
  return value * value;
}

__global__ void lrn_forward_kernel(float* y, int64_t y_pitch, const float* x, Lrn p) {
  constexpr int N = kVectorFloats;
  const Vec<N> alpha = broadcast<N>(p.alpha), k = broadcast<N>(p.k);
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const float* const pixel = x + row * p.channels;
    Vec<N> before = squares<N>(pixel, first - N, p.channels), here = squares<N>(pixel, first, p.channels);
    for (int64_t c = first; c < end; c += N) {
      const Vec<N> after = squares<N>(pixel, c + N, p.channels);
      const Vec<N> s = fma(alpha, window_sum(before, here, after), k);
      store(y + row * y_pitch + c, load<N>(pixel + c) * powers_of_three_quarters(s).minus_beta);
      before = here, here = after;
    }
  });
}

// What backward needs of the channels around one: s^-beta, and dy x s^(-beta-1), which it sums over windows.
template <int N>
struct BackwardTerms {
  Vec<N> scale, weighted;
};
template <int N>
__device__ inline BackwardTerms<N> backward_terms(const float* dy, const float* x, int64_t channel, const Lrn& p) {
  if (channel < 0 || channel >= p.channels) return {broadcast<N>(0.0f), broadcast<N>(0.0f)};
  const Vec<N> sum = window_sum(squares<N>(x, channel - N, p.channels), squares<N>(x, channel, p.channels),
                                squares<N>(x, channel + N, p.channels));
  const Powers<N> power = powers_of_three_quarters(fma(broadcast<N>(p.alpha), sum, broadcast<N>(p.k)));
  return {power.minus_beta, load<N>(dy + channel) * load<N>(x + channel) * power.minus_beta_1};
}

__global__ void lrn_backward_kernel(float* dx, const float* dy, int64_t dy_pitch, const float* x, Lrn p) {
  constexpr int N = kVectorFloats;
  const Vec<N> factor = broadcast<N>(-2.0f * p.alpha * kBeta);
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const float* const dy_pixel = dy + row * dy_pitch;
    const float* const x_pixel = x + row * p.channels;
    BackwardTerms<N> before = backward_terms<N>(dy_pixel, x_pixel, first - N, p);
    BackwardTerms<N> here = backward_terms<N>(dy_pixel, x_pixel, first, p);
    for (int64_t c = first; c < end; c += N) {
      const BackwardTerms<N> after = backward_terms<N>(dy_pixel, x_pixel, c + N, p);
      const Vec<N> spread = window_sum(before.weighted, here.weighted, after.weighted);
      const Vec<N> x_here = load<N>(x_pixel + c);
      const Vec<N> gradient = fma(factor * x_here, spread, load<N>(dy_pixel + c) * here.scale);
      store(dx + row * p.channels + c,
            p.x_from_relu ? select_positive(x_here, gradient, broadcast<N>(0.0f)) : gradient);
      before = here, here = after;
    }
  });
}

// The channels of channel i's window.
struct Window {
  int64_t begin, end;
};
__device__ inline Window window_of(int64_t i, const Lrn& p) {
  const int64_t half = p.size / 2;
  return {i > half ? i - half : 0, half < p.channels - 1 - i ? i + half + 1 : p.channels};
}

__device__ inline float scale_of(const float* x, int64_t i, const Lrn& p) {
  const Window window = window_of(i, p);
  float sum = 0.0f;
  for (int64_t j = window.begin; j < window.end; ++j) sum += x[j] * x[j];
  return p.k + p.alpha * sum;
}

// Any window, exponent and number of channels, an element a thread.
__global__ void lrn_forward_general_kernel(float* y, int64_t y_pitch, const float* x, Lrn p) {
  const ThreadShare share = thread_share(p.rows * p.channels);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const Split element = split(i, p.channels);
    const int64_t row = element.quotient, channel = element.remainder;
    y[row * y_pitch + channel] = x[i] * powf(scale_of(x + row * p.channels, channel, p), -p.beta);
  }
}

__global__ void lrn_backward_general_kernel(float* dx, const float* dy, int64_t dy_pitch, const float* x, Lrn p) {
  const ThreadShare share = thread_share(p.rows * p.channels);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const Split element = split(i, p.channels);
    const int64_t channel = element.remainder;
    const float* const dy_pixel = dy + element.quotient * dy_pitch;
    const float* const x_pixel = x + element.quotient * p.channels;
    const Window window = window_of(channel, p);
    float spread = 0.0f;
    for (int64_t j = window.begin; j < window.end; ++j) {
      spread += dy_pixel[j] * x_pixel[j] * powf(scale_of(x_pixel, j, p), -p.beta - 1.0f);
    }
    const float direct = dy_pixel[channel] * powf(scale_of(x_pixel, channel, p), -p.beta);
    const float gradient = direct - 2.0f * p.alpha * p.beta * x_pixel[channel] * spread;
    dx[i] = p.x_from_relu && !(x_pixel[channel] > 0.0f) ? 0.0f : gradient;
  }
}

void check(const Lrn& p, const char* pitch_name, int64_t pitch) {
  require(p.rows >= 1 && p.channels >= 1, "lrn needs at least one row and one channel; got ", p.rows, " rows and ",
          p.channels, " channels");
  require(pitch >= p.channels, pitch_name, " must be at least the ", p.channels, " channels; got ", pitch);
  require(p.size >= 1, "size must be at least 1; got ", p.size);
  require(std::isfinite(p.alpha) && p.alpha >= 0, "alpha must be finite and not negative; got ", p.alpha);
  require(std::isfinite(p.beta) && p.beta >= 0, "beta must be finite and not negative; got ", p.beta);
  require(std::isfinite(p.k) && p.k > 0, "k must be finite and positive; got ", p.k);
}

bool suits_vectors(const Lrn& p, int64_t pitch) {
  return p.size / 2 == kRadius && p.beta == kBeta && p.channels % kVectorFloats == 0 && rows_hold_vectors(pitch);
}

Launch over_runs(const char* kernel_name, const Lrn& p, int64_t arrays, cudaStream_t stream) {
  constexpr int64_t kRun = kVectorsPerThread * kVectorFloats;
  const int64_t run = p.channels < kRun ? p.channels : kRun;
  return share_out(kernel_name, p.rows * ceil_div(p.channels, kRun), arrays * 4 * run, stream);
}

}  // namespace

void lrn_forward(float* y, int64_t y_pitch, const float* x, const Lrn& lrn, cudaStream_t stream) {
  check(lrn, "y_pitch", y_pitch);
  if (suits_vectors(lrn, y_pitch)) {
    launch<lrn_forward_kernel>(over_runs("lrn_forward_kernel", lrn, 2, stream), y, y_pitch, x, lrn);
  } else {
    launch<lrn_forward_general_kernel>(share_out("lrn_forward_general_kernel", lrn.rows * lrn.channels, 2 * 4, stream),
                                       y, y_pitch, x, lrn);
  }
}

void lrn_backward(float* dx, const float* dy, int64_t dy_pitch, const float* x, const Lrn& lrn, cudaStream_t stream) {
  check(lrn, "dy_pitch", dy_pitch);
  if (suits_vectors(lrn, dy_pitch)) {
    launch<lrn_backward_kernel>(over_runs("lrn_backward_kernel", lrn, 3, stream), dx, dy, dy_pitch, x, lrn);
  } else {
    launch<lrn_backward_general_kernel>(
        share_out("lrn_backward_general_kernel", lrn.rows * lrn.channels, 3 * 4, stream), dx, dy, dy_pitch, x, lrn);
  }
}

Cost lrn_forward_cost(const Lrn& lrn) {
  const int64_t elements = lrn.rows * lrn.channels;
  constexpr int64_t kSquareWindowScalePowerProduct = 1 + 2 + 2 + 1 + 1;
  return {kSquareWindowScalePowerProduct * elements, 2 * 4 * elements};
}

Cost lrn_backward_cost(const Lrn& lrn) {
  const int64_t elements = lrn.rows * lrn.channels;
  constexpr int64_t kSquareWindowScalePowers = 1 + 2 + 2 + 2, kTermWindowResult = 2 + 2 + 4;
  return {(kSquareWindowScalePowers + kTermWindowResult) * elements, 3 * 4 * elements};
}

}  // namespace pyalexnet
