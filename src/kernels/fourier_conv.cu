#include "kernels/fourier_conv.cuh"

#include <algorithm>

#include "kernels/spectra.cuh"

namespace pyalexnet {

namespace {

#if defined(PYALEXNET_TARGET_CPU)
// Measured with AlexNet's layers on two cores of AVX2 and of AVX-512, which multiply twice as fast, at the batches where
// one way takes over from another: benchmarks/transform_costs.py --batch 4,8,16.
constexpr ElementCosts kCosts = kVectorFloats < 16 ? ElementCosts{42, 7} : ElementCosts{37, 18};
#else
// On an H100: 93 at a batch of 128, and more at one of 32, where a kernel's start counts. Of three passes over an element,
// one is left where it is kept (not measured).
constexpr ElementCosts kCosts = {128, 43};
#endif

MapAxis axis(int64_t extent, int sign, int64_t offset, int points) {
  const int64_t wrapped = (offset % points + points) % points;
  return {static_cast<int>(extent), sign, static_cast<int>(wrapped)};
}

// Images with sign 1, reversed ones with -1.
template <class Float>
Maps<Float> images(Float* data, const Correlation& c, int points, int64_t height, int64_t width, int64_t channels,
                   const ImageStrides& strides, int sign) {
  return {data,
          c.batch,
          channels,
          c.groups,
          strides.image,
          strides.row,
          strides.pixel,
          axis(height, sign, 0, points),
          axis(width, sign, 0, points)};
}

// Weights, a map for each of a group's channels and each filter. Tap t is at padding - t where they are multiplied with
// an image (sign -1), and at t - padding where they are the result (sign 1).
template <class Float>
Maps<Float> filters(Float* data, const Correlation& c, int points, int sign) {
  const int64_t depth = c.channels / c.groups;
  return {data,
          depth,
          c.filters,
          c.groups,
          c.filters,
          c.kernel_width * depth * c.filters,
          depth * c.filters,
          axis(c.kernel_height, sign, -sign * c.padding_top, points),
          axis(c.kernel_width, sign, -sign * c.padding_left, points)};
}

}  // namespace

int fourier_points(const ConvShape& s) {
  if (s.stride != 1) return 0;
  const int64_t needed = std::max(
      {s.height + s.padding, s.width + s.padding, s.out_height(), s.out_width(), s.kernel_height, s.kernel_width});
  for (int points : kSpectrumPoints) {
    if (points >= needed) return points;
  }
  return 0;
}

int64_t fourier_multiply_adds(const ConvShape& s, int points, bool keeps_w_spectra) {
  return transformed_multiply_adds(s, planes_of(points), s.batch, kCosts, keeps_w_spectra);
}

int64_t FourierTransform::planes() const {
  return planes_of(points_);
}

void FourierTransform::of_images(float* spectra, const PlaneLayout& layout, const float* in,
                                 const ImageStrides& strides, cudaStream_t stream) const {
  to_spectra(spectra, layout, points_, Side::kLeft,
             images(in, c_, points_, c_.in_height, c_.in_width, c_.channels, strides, 1), stream);
}

void FourierTransform::of_weights(float* spectra, const PlaneLayout& layout, const float* w,
                                  cudaStream_t stream) const {
  to_spectra(spectra, layout, points_, Side::kRight, filters(w, c_, points_, -1), stream);
}

void FourierTransform::of_gradients(float* spectra, const PlaneLayout& layout, const float* dy,
                                    cudaStream_t stream) const {
  const ImageStrides strides = dense_strides(c_.out_height, c_.out_width, c_.filters);
  to_spectra(spectra, layout, points_, Side::kRight,
             images(dy, c_, points_, c_.out_height, c_.out_width, c_.filters, strides, -1), stream);
}

void FourierTransform::to_images(float* out, const float* products, const PlaneLayout& layout, const float* bias,
                                 bool relu, cudaStream_t stream) const {
  const ImageStrides strides = dense_strides(c_.out_height, c_.out_width, c_.filters);
  from_spectra(images(out, c_, points_, c_.out_height, c_.out_width, c_.filters, strides, 1), points_, products, layout,
               bias, relu, stream);
}

void FourierTransform::to_weights(float* dw, const float* products, const PlaneLayout& layout,
                                  cudaStream_t stream) const {
  from_spectra(filters(dw, c_, points_, 1), points_, products, layout, nullptr, false, stream);
}

}  // namespace pyalexnet
