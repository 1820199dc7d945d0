#include "kernels/fourier_conv.cuh"

#include <algorithm>

#include "device/launch.cuh"
#include "device/workspace.h"
#include "kernels/layer_patches.cuh"
#include "kernels/patch_product.cuh"
#include "kernels/spectra.cuh"

namespace pyalexnet {

namespace {

// What an element of the spectra costs, written and read, in multiply-adds of a product; and what part of that it costs to
// be read alone. Measured with AlexNet's layers.
#if defined(PYALEXNET_TARGET_CPU)
// On two AVX2 cores, at batches of 2 to 128: 44 for maps of 13 x 13, less for those of 27 x 27. Both ways take the same
// time at about 4 images in conv2 and 12 in the others. On AVX-512 cores, which multiply twice as fast and read no
// faster, at 9 and 22; with kept spectra at 2 and 5.
constexpr int64_t kElementMultiplyAdds = kVectorFloats < 16 ? 48 : 80, kKeptShare = 5;
#else
// On an H100: 93 at a batch of 128, and more at one of 32, where a kernel's start counts. Of three passes over an element,
// one is left where it is kept (not measured).
constexpr int64_t kElementMultiplyAdds = 128, kKeptShare = 3;
#endif

// The spectra of images, of weights, and of weights' gradients, which have a row more for the bias's.
SpectraLayout of_images(const Correlation& c, int64_t channels) {
  return {c.batch, channels / c.groups, c.groups};
}
SpectraLayout of_weights(const Correlation& c) {
  return {c.channels / c.groups, c.filters / c.groups, c.groups};
}
SpectraLayout of_weight_gradients(const Correlation& c) {
  return {c.channels / c.groups + 1, c.filters / c.groups, c.groups};
}

int64_t spectra_bytes(const Correlation& c, const SpectraLayout& layout) {
  return piece_bytes({planes_of(c.points), layout.plane_stride()});
}

MatrixLayout matrices_of(const SpectraLayout& layout) {
  return {layout.columns, layout.group_stride()};
}

MapAxis axis(int64_t extent, int sign, int64_t offset, int points) {
  const int64_t wrapped = (offset % points + points) % points;
  return {static_cast<int>(extent), sign, static_cast<int>(wrapped)};
}

// Images with sign 1, reversed ones with -1.
template <class Float>
Maps<Float> images(Float* data, const Correlation& c, int64_t height, int64_t width, int64_t channels,
                   const ImageStrides& strides, int sign) {
  return {data,
          c.batch,
          channels,
          c.groups,
          strides.image,
          strides.row,
          strides.pixel,
          axis(height, sign, 0, c.points),
          axis(width, sign, 0, c.points)};
}

ImageStrides dense(int64_t height, int64_t width, int64_t channels) {
  return {height * width * channels, width * channels, channels};
}

// The images' spectra, which are computed into the workspace where there are none yet.
const float* spectra_of(const Correlation& c, const Images& in, Pieces& pieces, cudaStream_t stream) {
  if (in.spectra) return in.spectra;
  float* const spectra = pieces.take(image_spectra_bytes(c));
  image_spectra(c, spectra, in.data, in.strides, stream);
  return spectra;
}

// The weights', likewise.
const float* spectra_of(const Correlation& c, const Weights& w, Pieces& pieces, cudaStream_t stream) {
  if (w.spectra) return w.spectra;
  float* const spectra = pieces.take(weight_spectra_bytes(c));
  weight_spectra(c, spectra, w.data, stream);
  return spectra;
}

// Weights, a map for each of a group's channels and each filter. Tap t is at padding - t where they are multiplied with
// an image (sign -1), and at t - padding where they are the result (sign 1).
template <class Float>
Maps<Float> filters(Float* data, const Correlation& c, int sign) {
  const int64_t depth = c.channels / c.groups;
  return {data,
          depth,
          c.filters,
          c.groups,
          c.filters,
          c.kernel_width * depth * c.filters,
          depth * c.filters,
          axis(c.kernel_height, sign, -sign * c.padding_top, c.points),
          axis(c.kernel_width, sign, -sign * c.padding_left, c.points)};
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

bool fourier_pays(const ConvShape& s, int points, bool keeps_w_spectra) {
  if (!points) return false;
  const int64_t planes = planes_of(points), depth = s.channels / s.groups;
  const int64_t weights = planes * depth * s.filters / (keeps_w_spectra ? kKeptShare : 1);
  const int64_t elements = planes * s.batch * (s.channels + s.filters) + weights;
  const int64_t multiply_adds = planes * s.batch * depth * s.filters;
  const int64_t direct =
      s.batch * s.out_height() * s.out_width() * s.kernel_height * s.kernel_width * depth * s.filters;
  return multiply_adds + kElementMultiplyAdds * elements < direct;
}

Correlation forward_of(const ConvShape& s, int points) {
  return {points,    s.batch,         s.height,       s.width,   s.channels, s.out_height(), s.out_width(),
          s.filters, s.kernel_height, s.kernel_width, s.padding, s.padding,  s.groups};
}

Correlation input_gradient_of(const ConvShape& s, int points) {
  return {points,
          s.batch,
          s.out_height(),
          s.out_width(),
          s.filters,
          s.height,
          s.width,
          s.channels,
          s.kernel_height,
          s.kernel_width,
          s.kernel_height - 1 - s.padding,
          s.kernel_width - 1 - s.padding,
          s.groups};
}

ProductPlan plan_correlation(const Correlation& c, Precision precision, bool batch_invariant) {
  const int64_t planes = planes_of(c.points);
  return plan_product(
      {c.batch, planes * c.filters, c.channels / c.groups, planes * c.groups, batch_invariant ? int64_t{1} : 0},
      {.algorithm = {}, .precision = precision});
}

ProductPlan plan_weight_gradient(const Correlation& c, Precision precision) {
  const int64_t planes = planes_of(c.points), rows = c.channels / c.groups + 1;  // one for the bias
  return plan_product({rows, planes * c.filters, c.batch, planes * c.groups},
                      {.algorithm = {}, .precision = precision});
}

int64_t image_spectra_bytes(const Correlation& c) {
  return spectra_bytes(c, of_images(c, c.channels));
}

void image_spectra(const Correlation& c, float* spectra, const float* in, const ImageStrides& in_strides,
                   cudaStream_t stream) {
  to_spectra(spectra, of_images(c, c.channels), c.points, Side::kLeft,
             images(in, c, c.in_height, c.in_width, c.channels, in_strides, 1), stream);
}

int64_t weight_spectra_bytes(const Correlation& c) {
  return spectra_bytes(c, of_weights(c));
}

void weight_spectra(const Correlation& c, float* spectra, const float* w, cudaStream_t stream) {
  to_spectra(spectra, of_weights(c), c.points, Side::kRight, filters(w, c, -1), stream);
}

int64_t correlation_workspace_bytes(const Correlation& c, const ProductPlan& product, bool keeps_w_spectra) {
  return image_spectra_bytes(c) + (keeps_w_spectra ? 0 : weight_spectra_bytes(c)) +
         spectra_bytes(c, of_images(c, c.filters)) + product.workspace_bytes;
}

int64_t weight_gradient_workspace_bytes(const Correlation& c, const ProductPlan& product) {
  return image_spectra_bytes(c) + spectra_bytes(c, of_images(c, c.filters)) + spectra_bytes(c, of_weight_gradients(c)) +
         product.workspace_bytes;
}

void correlate(const Correlation& c, const ProductPlan& product, float* out, const Images& in, const Weights& w,
               const float* bias, bool relu, void* workspace, cudaStream_t stream) {
  const int64_t planes = planes_of(c.points);
  const SpectraLayout in_layout = of_images(c, c.channels), w_layout = of_weights(c),
                      out_layout = of_images(c, c.filters);
  Pieces pieces(workspace);
  const float* const in_hat = spectra_of(c, in, pieces, stream);
  const float* const w_hat = spectra_of(c, w, pieces, stream);
  float* const out_hat = pieces.take(spectra_bytes(c, out_layout));

  patches_times_matrix(product, out_hat, matrices_of(out_layout),
                       patches_of_rows(in_hat, c.batch, in_layout.columns, in_layout.columns, in_layout.group_stride()),
                       w_hat, matrices_of(w_layout), planes * c.filters, planes * c.groups, nullptr, false,
                       pieces.rest(), stream);
  from_spectra(images(out, c, c.out_height, c.out_width, c.filters, dense(c.out_height, c.out_width, c.filters), 1),
               c.points, out_hat, out_layout, bias, relu, stream);
}

void correlate_for_weights(const Correlation& c, const ProductPlan& product, float* dw, float* db, const Images& x,
                           const float* dy, void* workspace, cudaStream_t stream) {
  const int64_t planes = planes_of(c.points);
  const SpectraLayout x_layout = of_images(c, c.channels), dy_layout = of_images(c, c.filters),
                      dw_layout = of_weight_gradients(c);
  Pieces pieces(workspace);
  const float* const x_hat = spectra_of(c, x, pieces, stream);
  float* const dy_hat = pieces.take(spectra_bytes(c, dy_layout));
  float* const dw_hat = pieces.take(spectra_bytes(c, dw_layout));
  float* const sums = dw_hat + (dw_layout.rows - 1) * dw_layout.columns;

  to_spectra(dy_hat, dy_layout, c.points, Side::kRight,
             images(dy, c, c.out_height, c.out_width, c.filters, dense(c.out_height, c.out_width, c.filters), -1),
             stream);
  transposed_patches_times_matrix(
      product, dw_hat, db ? sums : nullptr, matrices_of(dw_layout),
      patches_of_rows(x_hat, c.batch, x_layout.columns, x_layout.columns, x_layout.group_stride()), dy_hat,
      matrices_of(dy_layout), planes * c.filters, planes * c.groups, pieces.rest(), stream);
  from_spectra(filters(dw, c, 1), c.points, dw_hat, dw_layout, nullptr, false, stream);
  if (!db) return;
  // The first plane is that of frequency 0, a map's sum.
  for (int64_t group = 0; group < c.groups; ++group) {
    PYALEXNET_CHECK_CUDA(cudaMemcpyAsync(db + group * dw_layout.columns, sums + group * dw_layout.group_stride(),
                                         static_cast<size_t>(dw_layout.columns) * sizeof(float),
                                         cudaMemcpyDeviceToDevice, stream));
  }
}

}  // namespace pyalexnet
