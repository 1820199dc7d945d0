#include "kernels/conv.cuh"

#include "device/launch.cuh"
#include "device/sizes.h"
#include "kernels/patch_product.cuh"
#include "kernels/transpose.cuh"

namespace pyalexnet {

namespace {

// The patches that the filters of `shape` see in x.
Patches patches_of(const ConvShape& s, const float* x, const ImageStrides& strides) {
  Patches p{};
  p.input = x;
  p.group_stride = s.channels / s.groups;
  p.image_stride = strides.image, p.row_stride = strides.row, p.pixel_stride = strides.pixel;
  p.height = static_cast<int>(s.height), p.width = static_cast<int>(s.width);
  p.out_height = static_cast<int>(s.out_height()), p.out_width = static_cast<int>(s.out_width());
  p.kernel_height = static_cast<int>(s.kernel_height), p.kernel_width = static_cast<int>(s.kernel_width);
  p.run = static_cast<int>(s.channels / s.groups);
  // A kernel row that cannot reach into padding is one contiguous run.
  if (s.padding == 0 && s.groups == 1 && strides.pixel == s.channels) {
    p.run *= p.kernel_width;
    p.kernel_width = 1;
  }
  p.run_slots = slots_of(p.run);
  p.stride = static_cast<int>(s.stride);
  p.padding_top = p.padding_left = static_cast<int>(s.padding);
  p.spread = 1;
  p.pixels = s.batch * s.out_height() * s.out_width();
  const int64_t step = s.padding == 0 ? s.stride * strides.pixel : strides.pixel;
  p.aligned = vectors_aligned(x, strides.image, strides.row, step, p.kernel_width == 1 ? 0 : strides.pixel,
                              s.groups == 1 ? 0 : p.group_stride);
  return p;
}

// The patches of dy that the pixels of x were seen by: those of a convolution with stride 1 over dy, spread out.
Patches gradient_patches_of(const ConvShape& s, const float* dy) {
  Patches p{};
  p.input = dy;
  p.group_stride = s.filters / s.groups;
  p.pixel_stride = s.filters, p.row_stride = s.out_width() * p.pixel_stride,
  p.image_stride = s.out_height() * p.row_stride;
  p.height = static_cast<int>(s.out_height()), p.width = static_cast<int>(s.out_width());
  p.out_height = static_cast<int>(s.height), p.out_width = static_cast<int>(s.width);
  p.kernel_height = static_cast<int>(s.kernel_height), p.kernel_width = static_cast<int>(s.kernel_width);
  p.run = static_cast<int>(s.filters / s.groups);
  p.run_slots = slots_of(p.run);
  p.stride = 1;
  p.padding_top = static_cast<int>(s.kernel_height - 1 - s.padding);
  p.padding_left = static_cast<int>(s.kernel_width - 1 - s.padding);
  p.spread = static_cast<int>(s.stride);
  p.pixels = s.batch * s.height * s.width;
  p.aligned = vectors_aligned(dy, s.filters, s.groups == 1 ? 0 : p.group_stride);
  return p;
}

// Weights as the gradient of the input needs them: (ky, kx, channel of the group, filter) goes to
// (last - ky, last - kx, filter of the group, channel).
void flip_weights(float* flipped, const float* w, const ConvShape& s, cudaStream_t stream) {
  const int64_t taps = s.kernel_height * s.kernel_width;
  const int64_t channels = s.channels / s.groups, filters = s.filters / s.groups;
  Transposition t{};
  t.outer = taps, t.inner = s.groups, t.rows = channels, t.columns = filters;
  t.from_outer = channels * s.filters, t.from_inner = filters, t.from_pitch = s.filters;
  t.to_outer = -filters * s.channels, t.to_inner = channels, t.to_pitch = s.channels;
  transpose(flipped + (taps - 1) * filters * s.channels, w, t, stream);
}

int64_t weight_count(const ConvShape& s) {
  return s.kernel_height * s.kernel_width * (s.channels / s.groups) * s.filters;
}

// The workspace of the input's gradient starts with the flipped weights.
int64_t flipped_weight_bytes(const ConvShape& s) {
  return ceil_div(weight_count(s) * int64_t{sizeof(float)}, 256) * 256;
}

// Each multiplication of the forward pass happens once in each backward pass too.
Cost cost(const ConvShape& s) {
  const int64_t y = s.batch * s.out_height() * s.out_width() * s.filters;
  const int64_t x = s.batch * s.height * s.width * s.channels;
  const int64_t flops = 2 * y * s.kernel_height * s.kernel_width * (s.channels / s.groups);
  return {flops, int64_t{sizeof(float)} * (x + y + weight_count(s))};
}

}  // namespace

void check_conv_shape(const ConvShape& s) {
  require(s.batch > 0 && s.height > 0 && s.width > 0 && s.channels > 0, "x has shape ",
          shape_text({s.batch, s.height, s.width, s.channels}), "; it must not be empty");
  require(s.groups >= 1, "groups is ", s.groups, "; it must be at least 1");
  require(s.channels % s.groups == 0, "groups is ", s.groups, "; it must divide the ", s.channels, " channels of x");
  require(s.filters % s.groups == 0, "groups is ", s.groups, "; it must divide the ", s.filters, " filters of w");
  const std::string w = shape_text({s.kernel_height, s.kernel_width, s.channels / s.groups, s.filters});
  require(s.kernel_height > 0 && s.kernel_width > 0 && s.filters > 0, "w has shape ", w, "; it must not be empty");
  require(s.stride >= 1 && s.stride <= kLargestExtent, "stride is ", s.stride, "; it must be from 1 to ",
          kLargestExtent);
  require(s.padding >= 0 && s.padding <= kLargestExtent, "padding is ", s.padding, "; it must be from 0 to ",
          kLargestExtent);
  require(std::max({s.height, s.width, s.channels}) <= kLargestExtent, "x has shape ",
          shape_text({s.batch, s.height, s.width, s.channels}), "; extents but the first must be at most ",
          kLargestExtent);
  require(s.filters <= kLargestExtent && s.kernel_height <= kLargestExtent / s.kernel_width / s.channels,
          "w has shape ", w, "; filters, and elements of a filter, must be at most ", kLargestExtent);
  require(s.kernel_height <= s.height + 2 * s.padding && s.kernel_width <= s.width + 2 * s.padding, "w has shape ", w,
          "; its kernel must fit into the ", s.height, " x ", s.width, " image with padding ", s.padding);
  float_bytes("x", {s.batch, s.height, s.width, s.channels});
  const std::vector<int64_t> y = {s.batch, s.out_height(), s.out_width(), s.filters};
  product({int64_t{sizeof(float)}, y[0], y[1], y[2], y[3]}, "padding is ", s.padding, "; y would have shape ",
          shape_text(y), ", of more than 2**63 - 1 bytes");
}

ImageStrides dense_strides(const ConvShape& s) {
  return {s.height * s.width * s.channels, s.width * s.channels, s.channels};
}

void conv_forward(const ConvShape& s, float* y, const float* x, const ImageStrides& x_strides, const float* w,
                  const float* bias, bool relu, void* workspace, cudaStream_t stream) {
  check_conv_shape(s);
  patches_times_matrix(y, s.filters, patches_of(s, x, x_strides), w, s.filters, static_cast<int>(s.groups), bias, relu,
                       workspace, stream);
}

void conv_backward_input(const ConvShape& s, float* dx, const float* dy, const float* w, void* workspace,
                         cudaStream_t stream) {
  check_conv_shape(s);
  float* flipped = static_cast<float*>(workspace);
  flip_weights(flipped, w, s, stream);
  void* rest = static_cast<char*>(workspace) + flipped_weight_bytes(s);
  patches_times_matrix(dx, s.channels, gradient_patches_of(s, dy), flipped, s.channels, static_cast<int>(s.groups),
                       nullptr, false, rest, stream);
}

void conv_backward_weight(const ConvShape& s, float* dw, float* db, const float* x, const ImageStrides& x_strides,
                          const float* dy, void* workspace, cudaStream_t stream) {
  check_conv_shape(s);
  transposed_patches_times_matrix(dw, db, patches_of(s, x, x_strides), dy, s.filters, s.filters,
                                  static_cast<int>(s.groups), workspace, stream);
}

int64_t conv_forward_workspace_bytes(const ConvShape& s) {
  check_conv_shape(s);
  return patches_times_matrix_workspace_bytes(patches_of(s, nullptr, dense_strides(s)), s.filters,
                                              static_cast<int>(s.groups));
}

int64_t conv_backward_input_workspace_bytes(const ConvShape& s) {
  check_conv_shape(s);
  return flipped_weight_bytes(s) +
         patches_times_matrix_workspace_bytes(gradient_patches_of(s, nullptr), s.channels, static_cast<int>(s.groups));
}

int64_t conv_backward_weight_workspace_bytes(const ConvShape& s) {
  check_conv_shape(s);
  return transposed_patches_times_matrix_workspace_bytes(patches_of(s, nullptr, dense_strides(s)), s.filters,
                                                         static_cast<int>(s.groups));
}

Cost conv_forward_cost(const ConvShape& s) {
  return cost(s);
}
Cost conv_backward_input_cost(const ConvShape& s) {
  return cost(s);
}
Cost conv_backward_weight_cost(const ConvShape& s) {
  return cost(s);
}

}  // namespace pyalexnet
