#include "kernels/lrn_in_map.cuh"

#include <cmath>

#include "device/powers.cuh"
#include "device/rows.cuh"

namespace pyalexnet {

namespace {

// The rows and columns of a pixel's window.
struct PixelWindow {
  int64_t top, bottom, left, right;  // to but not including bottom and right
};
__device__ inline PixelWindow window_of(int64_t y, int64_t x, const LrnInMap& p) {
  const int64_t half = p.size / 2;
  return {y > half ? y - half : 0, half < p.height - 1 - y ? y + half + 1 : p.height, x > half ? x - half : 0,
          half < p.width - 1 - x ? x + half + 1 : p.width};
}

// Calls body.template operator()<N>(pixel, window, channel) for all runs of N channels of all pixels of the calling
// thread; `window` names the rows and columns, `image` the first pixel of the image.
template <class Body>
__device__ inline void for_each_pixel(const LrnInMap& p, bool vectors, Body body) {
  const ThreadShare share = block_share(p.images * p.height * p.width);
  for (int64_t pixel = share.begin; pixel < share.end; pixel += share.step) {
    const Split row = split(pixel, p.width);
    const Split image = split(row.quotient, p.height);
    const PixelWindow window = window_of(image.remainder, row.remainder, p);
    const int64_t first = pixel - image.remainder * p.width - row.remainder;
    for_each_row_vector(p.channels, vectors,
                        [&]<int N>(int64_t channel) { body.template operator()<N>(pixel, first, window, channel); });
  }
}

// The sum over a window of what `term` makes of each pixel's place in the arrays.
template <int N, class Term>
__device__ inline Vec<N> window_sum(const LrnInMap& p, int64_t first, const PixelWindow& window, int64_t channel,
                                    Term term) {
  Vec<N> sum = broadcast<N>(0.0f);
  for (int64_t y = window.top; y < window.bottom; ++y) {
    for (int64_t x = window.left; x < window.right; ++x) {
      sum = sum + term((first + y * p.width + x) * p.channels + channel);
    }
  }
  return sum;
}

__global__ void lrn_in_map_forward_kernel(float* y, int64_t y_pitch, float* scale, const float* x, LrnInMap p,
                                          bool vectors) {
  for_each_pixel(p, vectors, [&]<int N>(int64_t pixel, int64_t first, const PixelWindow& window, int64_t channel) {
    const Vec<N> sum = window_sum<N>(p, first, window, channel, [&](int64_t place) {
      const Vec<N> value = load<N>(x + place);
      return value * value;
    });
    const Vec<N> s = fma(broadcast<N>(p.alpha), sum, broadcast<N>(p.k));
    const int64_t here = pixel * p.channels + channel;
    store(scale + here, s);
    store(y + pixel * y_pitch + channel, load<N>(x + here) * powers(s, p.beta).minus_beta);
  });
}

// dy x s^(-beta-1), which backward sums over windows.
__global__ void lrn_in_map_terms_kernel(float* terms, const float* dy, int64_t dy_pitch, const float* x,
                                        const float* scale, float beta, int64_t pixels, int64_t channels,
                                        bool vectors) {
  const ThreadShare share = block_share(pixels);
  for (int64_t pixel = share.begin; pixel < share.end; pixel += share.step) {
    for_each_row_vector(channels, vectors, [&]<int N>(int64_t channel) {
      const int64_t here = pixel * channels + channel;
      const Vec<N> gradient = load<N>(dy + pixel * dy_pitch + channel);
      store(terms + here, gradient * load<N>(x + here) * powers(load<N>(scale + here), beta).minus_beta_1);
    });
  }
}

__global__ void lrn_in_map_backward_kernel(float* dx, const float* terms, const float* dy, int64_t dy_pitch,
                                           const float* x, const float* scale, LrnInMap p, bool vectors) {
  for_each_pixel(p, vectors, [&]<int N>(int64_t pixel, int64_t first, const PixelWindow& window, int64_t channel) {
    const Vec<N> spread =
        window_sum<N>(p, first, window, channel, [&](int64_t place) { return load<N>(terms + place); });
    const int64_t here = pixel * p.channels + channel;
    const Vec<N> direct = load<N>(dy + pixel * dy_pitch + channel) * powers(load<N>(scale + here), p.beta).minus_beta;
    store(dx + here, fma(broadcast<N>(-2.0f * p.alpha * p.beta) * load<N>(x + here), spread, direct));
  });
}

int64_t pixel_count(const LrnInMap& p) {
  return p.images * p.height * p.width;
}

void check(const LrnInMap& p, const char* pitch_name, int64_t pitch) {
  require(p.images >= 1 && p.height >= 1 && p.width >= 1 && p.channels >= 1,
          "lrn_in_map needs at least one image, pixel and channel; got ",
          shape_text({p.images, p.height, p.width, p.channels}));
  require(pitch >= p.channels, pitch_name, " must be at least the ", p.channels, " channels; got ", pitch);
  require(p.size >= 1, "size must be at least 1; got ", p.size);
  require(std::isfinite(p.alpha) && p.alpha >= 0, "alpha must be finite and not negative; got ", p.alpha);
  require(std::isfinite(p.beta) && p.beta >= 0, "beta must be finite and not negative; got ", p.beta);
  require(std::isfinite(p.k) && p.k > 0, "k must be finite and positive; got ", p.k);
}

Launch over_pixels(const char* kernel_name, const LrnInMap& p, cudaStream_t stream) {
  return share_out_rows(kernel_name, pixel_count(p), ceil_div(p.channels, kVectorFloats), 3 * 4 * kVectorFloats,
                        stream);
}

}  // namespace

void lrn_in_map_forward(float* y, int64_t y_pitch, float* scale, const float* x, const LrnInMap& lrn,
                        cudaStream_t stream) {
  check(lrn, "y_pitch", y_pitch);
  launch<lrn_in_map_forward_kernel>(over_pixels("lrn_in_map_forward_kernel", lrn, stream), y, y_pitch, scale, x, lrn,
                                    rows_hold_vectors(y_pitch, lrn.channels));
}

void lrn_in_map_backward(float* dx, float* terms, const float* dy, int64_t dy_pitch, const float* x, const float* scale,
                         const LrnInMap& lrn, cudaStream_t stream) {
  check(lrn, "dy_pitch", dy_pitch);
  const bool vectors = rows_hold_vectors(dy_pitch, lrn.channels);
  launch<lrn_in_map_terms_kernel>(over_pixels("lrn_in_map_terms_kernel", lrn, stream), terms, dy, dy_pitch, x, scale,
                                  lrn.beta, pixel_count(lrn), lrn.channels, vectors);
  launch<lrn_in_map_backward_kernel>(over_pixels("lrn_in_map_backward_kernel", lrn, stream), dx, terms, dy, dy_pitch, x,
                                     scale, lrn, vectors);
}

Cost lrn_in_map_forward_cost(int64_t elements) {
  constexpr int64_t kSquareWindowScalePowerProduct = 1 + 4 + 2 + 1 + 1;
  return {kSquareWindowScalePowerProduct * elements, 3 * 4 * elements};
}

Cost lrn_in_map_backward_cost(int64_t elements) {
  constexpr int64_t kPowersTermWindowResult = 2 + 2 + 4 + 4;
  return {kPowersTermWindowResult * elements, 6 * 4 * elements};
}

}  // namespace pyalexnet
