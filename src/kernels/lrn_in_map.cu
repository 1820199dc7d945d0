#include "kernels/lrn_in_map.cuh"

#include <cfloat>
#include <cmath>

#include "device/powers.cuh"
#include "device/rows.cuh"

namespace pyalexnet {

namespace {

// A pixel, and the first one of its image.
struct Pixel {
  int64_t number, first, y, x;
};

// The rows and columns of a pixel's window, or of those whose windows hold it.
struct PixelWindow {
  Window rows, columns;
};
__device__ inline PixelWindow window_of(const Pixel& pixel, const LrnInMap& p) {
  const Normalisation& n = p.normalisation;
  return {window_around(pixel.y, n.before(), n.behind(), p.height),
          window_around(pixel.x, n.before(), n.behind(), p.width)};
}
__device__ inline PixelWindow holders_of(const Pixel& pixel, const LrnInMap& p) {
  const Normalisation& n = p.normalisation;
  return {window_around(pixel.y, n.behind(), n.before(), p.height),
          window_around(pixel.x, n.behind(), n.before(), p.width)};
}

// Calls body.template operator()<N>(pixel, window, channel) for all runs of N channels of all pixels of the calling
// thread, with what `window_of` says of the pixel.
template <class WindowOf, class Body>
__device__ inline void for_each_pixel(const LrnInMap& p, bool vectors, WindowOf window_of, Body body) {
  const ThreadShare share = block_share(p.images * p.height * p.width);
  for (int64_t number = share.begin; number < share.end; number += share.step) {
    const Split row = split(number, p.width);
    const Split image = split(row.quotient, p.height);
    const Pixel pixel{number, number - image.remainder * p.width - row.remainder, image.remainder, row.remainder};
    const PixelWindow window = window_of(pixel, p);
    for_each_row_vector(p.channels, vectors,
                        [&]<int N>(int64_t channel) { body.template operator()<N>(pixel, window, channel); });
  }
}

// Calls body(pixel) for those of a window.
template <class Body>
__device__ inline void for_each_in(const PixelWindow& window, int64_t first, const LrnInMap& p, Body body) {
  for (int64_t y = window.rows.begin; y < window.rows.end; ++y) {
    for (int64_t x = window.columns.begin; x < window.columns.end; ++x)
      body(Pixel{first + y * p.width + x, first, y, x});
  }
}

// The sum over a window of what `term` makes of each pixel's place in the arrays.
template <int N, class Term>
__device__ inline Vec<N> window_sum(const PixelWindow& window, int64_t first, int64_t channel, const LrnInMap& p,
                                    Term term) {
  Vec<N> sum = broadcast<N>(0.0f);
  for_each_in(window, first, p, [&](const Pixel& pixel) { sum = sum + term(pixel.number * p.channels + channel); });
  return sum;
}

// s and dx of one element by the formula in float64.
__device__ inline double exact_base(const float* x, const Pixel& pixel, int64_t channel, const LrnInMap& p) {
  double sum = 0.0;
  for_each_in(window_of(pixel, p), pixel.first, p, [&](const Pixel& at) {
    const double value = x[at.number * p.channels + channel];
    sum += value * value;
  });
  return p.normalisation.k + p.normalisation.alpha * sum;
}
__device__ inline float exact_backward(const float* dy, int64_t dy_pitch, const float* x, const Pixel& pixel,
                                       int64_t channel, const LrnInMap& p) {
  const Normalisation& n = p.normalisation;
  double spread = 0.0;
  for_each_in(holders_of(pixel, p), pixel.first, p, [&](const Pixel& at) {
    const double product =
        static_cast<double>(dy[at.number * dy_pitch + channel]) * x[at.number * p.channels + channel];
    spread += times_power(product, exact_base(x, at, channel, p), -1.0 - n.beta);
  });
  const double direct = times_power(dy[pixel.number * dy_pitch + channel], exact_base(x, pixel, channel, p), -n.beta);
  return static_cast<float>(direct - 2.0 * n.alpha * n.beta * x[pixel.number * p.channels + channel] * spread);
}

__global__ void lrn_in_map_forward_kernel(float* y, int64_t y_pitch, float* scale, const float* x, LrnInMap p,
                                          bool vectors) {
  const Normalisation& n = p.normalisation;
  for_each_pixel(p, vectors, window_of, [&]<int N>(const Pixel& pixel, const PixelWindow& window, int64_t channel) {
    const Vec<N> sum = window_sum<N>(window, pixel.first, channel, p, [&](int64_t place) {
      const Vec<N> value = load<N>(x + place);
      return value * value;
    });
    Vec<N> s = fma(broadcast<N>(n.alpha), sum, broadcast<N>(n.k));
    const int64_t here = pixel.number * p.channels + channel;
    Vec<N> result = load<N>(x + here) * powers(s, n.beta).minus_beta;
    if (!all_below(s, n.largest_base)) {
      for (int i = 0; i < N; ++i) {
        if (s[i] < n.largest_base) continue;
        const double base = exact_base(x, pixel, channel + i, p);
        s.set(i, static_cast<float>(base));
        result.set(i, static_cast<float>(times_power(x[here + i], base, -n.beta)));
      }
    }
    store(scale + here, s);
    store(y + pixel.number * y_pitch + channel, result);
  });
}

// dy x s^(-beta-1), which backward sums over windows; NaN where s is not below the largest base.
__global__ void lrn_in_map_terms_kernel(float* terms, const float* dy, int64_t dy_pitch, const float* x,
                                        const float* scale, Normalisation normalisation, int64_t pixels,
                                        int64_t channels, bool vectors) {
  const ThreadShare share = block_share(pixels);
  for (int64_t pixel = share.begin; pixel < share.end; pixel += share.step) {
    for_each_row_vector(channels, vectors, [&]<int N>(int64_t channel) {
      const int64_t here = pixel * channels + channel;
      const Vec<N> product = load<N>(dy + pixel * dy_pitch + channel) * load<N>(x + here);
      const Vec<N> s = load<N>(scale + here), limit = broadcast<N>(normalisation.largest_base);
      const Vec<N> term = product * powers(s, normalisation.beta).minus_beta_1;
      store(terms + here, select_below(s, limit, term, broadcast<N>(NAN)));
    });
  }
}

__global__ void lrn_in_map_backward_kernel(float* dx, const float* terms, const float* dy, int64_t dy_pitch,
                                           const float* x, const float* scale, LrnInMap p, bool vectors) {
  const Normalisation& n = p.normalisation;
  for_each_pixel(p, vectors, holders_of, [&]<int N>(const Pixel& pixel, const PixelWindow& window, int64_t channel) {
    const Vec<N> spread =
        window_sum<N>(window, pixel.first, channel, p, [&](int64_t place) { return load<N>(terms + place); });
    const int64_t here = pixel.number * p.channels + channel;
    const Vec<N> direct =
        load<N>(dy + pixel.number * dy_pitch + channel) * powers(load<N>(scale + here), n.beta).minus_beta;
    Vec<N> gradient = fma(broadcast<N>(-2.0f * n.alpha * n.beta) * load<N>(x + here), spread, direct);
    if (!all_below(greater(spread, broadcast<N>(0.0f) - spread), kLargestSpread)) {
      for (int i = 0; i < N; ++i) {
        if (fabsf(spread[i]) < kLargestSpread) continue;
        gradient.set(i, exact_backward(dy, dy_pitch, x, pixel, channel + i, p));
      }
    }
    store(dx + here, gradient);
  });
}

int64_t pixel_count(const LrnInMap& p) {
  return p.images * p.height * p.width;
}

void check(const LrnInMap& p, const char* pitch_name, int64_t pitch) {
  require(p.images >= 1 && p.height >= 1 && p.width >= 1 && p.channels >= 1, "x has shape ",
          shape_text({p.images, p.height, p.width, p.channels}), "; it must not be empty");
  require(pitch >= p.channels, pitch_name, " is ", pitch, "; it must be at least the ", p.channels, " channels");
}

Launch over_pixels(const char* kernel_name, const LrnInMap& p, cudaStream_t stream) {
  return share_out_rows(kernel_name, pixel_count(p), ceil_div(p.channels, kVectorFloats), 3 * 4 * kVectorFloats,
                        stream);
}

}  // namespace

void lrn_in_map_forward(float* y, int64_t y_pitch, float* scale, const float* x, const LrnInMap& lrn,
                        cudaStream_t stream) {
  check(lrn, "y_pitch", y_pitch);
  const bool vectors =
      vectors_aligned(y, y_pitch) && vectors_aligned(scale, lrn.channels) && vectors_aligned(x, lrn.channels);
  launch<lrn_in_map_forward_kernel>(over_pixels("lrn_in_map_forward_kernel", lrn, stream), y, y_pitch, scale, x, lrn,
                                    vectors);
}

void lrn_in_map_backward(float* dx, float* terms, const float* dy, int64_t dy_pitch, const float* x, const float* scale,
                         const LrnInMap& lrn, cudaStream_t stream) {
  check(lrn, "dy_pitch", dy_pitch);
  const bool vectors = vectors_aligned(dx, lrn.channels) && vectors_aligned(terms, lrn.channels) &&
                       vectors_aligned(dy, dy_pitch) && vectors_aligned(x, lrn.channels) &&
                       vectors_aligned(scale, lrn.channels);
  launch<lrn_in_map_terms_kernel>(over_pixels("lrn_in_map_terms_kernel", lrn, stream), terms, dy, dy_pitch, x, scale,
                                  lrn.normalisation, pixel_count(lrn), lrn.channels, vectors);
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
