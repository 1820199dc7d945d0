#include "kernels/lrn.cuh"

#include "device/rows.cuh"
#include "kernels/lrn_of_pixels.cuh"

namespace pyalexnet {

namespace {

// Calls body(row, first, end) for each run of channels [first, end) that the calling thread handles.
template <class Body>
__device__ inline void for_each_run(const Lrn& p, Body body) {
  const int64_t vectors = p.channels / kVectorFloats, runs = ceil_div(vectors, kVectorsPerThread);
  const ThreadShare share = thread_share(p.rows * runs);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const Split item = split(i, runs);
    const int64_t vector = item.remainder * kVectorsPerThread, first = vector * kVectorFloats;
    body(item.quotient, first, first + at_most<kVectorsPerThread>(vectors - vector) * kVectorFloats);
  }
}

template <bool aligned>
__global__ void lrn_forward_kernel(float* y, int64_t y_pitch, const float* x, Lrn p) {
  constexpr int N = kVectorFloats;
  Vec<N> largest = broadcast<N>(0.0f);
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const auto write = [&](int64_t c, Vec<N> value) { store_lanes(y + row * y_pitch + c, value, N, aligned); };
    normalise_run<N, aligned>(x + row * p.channels, first, end, p, largest, write);
  });
  const float largest_base = p.normalisation.largest_base;
  if (all_below(largest, largest_base)) return;
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const float* const pixel = x + row * p.channels;
    for (int64_t c = first; c < end; ++c) {
      const double base = exact_base(pixel, c, p);
      if (base >= largest_base) y[row * y_pitch + c] = exact_forward(pixel, c, base, p);
    }
  });
}

template <bool aligned>
__global__ void lrn_backward_kernel(float* dx, const float* dy, int64_t dy_pitch, const float* x, Lrn p) {
  constexpr int N = kVectorFloats;
  Vec<N> all_small = broadcast<N>(0.0f);
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const auto dy_of = [&](int64_t c) { return load_lanes<N>(dy + row * dy_pitch + c, N, aligned); };
    const auto write = [&](int64_t c, Vec<N> value) { store_lanes(dx + row * p.channels + c, value, N, aligned); };
    denormalise_run<N, aligned>(dy_of, x + row * p.channels, first, end, p, all_small, write);
  });
  if (all_below(all_small, 1.0f)) return;
  for_each_run(p, [&](int64_t row, int64_t first, int64_t end) {
    const auto dy_of = [&](int64_t c) { return dy[row * dy_pitch + c]; };
    const float* const x_pixel = x + row * p.channels;
    for (int64_t c = first; c < end; ++c) {
      float& to = dx[row * p.channels + c];
      if (!p.x_from_relu || x_pixel[c] > 0.0f) to = exact_backward(to, dy_of, x_pixel, c, p);
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
    if (!(fabsf(spread) < kLargestSpread)) {
      gradient = exact_backward(gradient, [&](int64_t j) { return dy_pixel[j]; }, x_pixel, channel, p);
    }
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
