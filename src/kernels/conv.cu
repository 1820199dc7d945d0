#include "kernels/conv.cuh"

#include <algorithm>

#include "device/launch.cuh"
#include "device/sizes.h"
#include "device/workspace.h"
#include "kernels/fourier_conv.cuh"
#include "kernels/layer_patches.cuh"
#include "kernels/patch_product.cuh"
#include "kernels/phases.cuh"
#include "kernels/spectra.cuh"
#include "kernels/transpose.cuh"
#include "kernels/winograd_conv.cuh"

namespace pyalexnet {

namespace {

constexpr std::string_view kDirect = "direct", kFourier = "fourier", kWinograd = "winograd";

// What a kernel sees of a pixel's channels, or of its filters.
int64_t terms_of(const ConvShape& s, int64_t depth) {
  return s.kernel_height * s.kernel_width * (depth / s.groups);
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
  return terms_of(s, s.channels) * s.filters;
}

// The workspace of the input's gradient: the weights as its product reads them, what the product gives where that is no
// dx yet, then the product's own.
struct InputGradientWorkspace {
  int64_t weight_bytes, phase_bytes = 0;

  explicit InputGradientWorkspace(const ConvShape& s) : weight_bytes(piece_bytes({weight_count(s)})) {
    if (s.stride == 1) return;
    const StridedGradient g(s);
    weight_bytes = piece_bytes({g.terms(), g.columns()});
    phase_bytes = piece_bytes({g.pixels(s.batch), g.columns()});
  }
};

int64_t direct_multiply_adds(const ConvShape& s) {
  return pixels_of_y(s) * s.filters * terms_of(s, s.channels);
}

// Each multiplication of the forward pass happens once in each backward pass too.
Cost cost(const ConvShape& s) {
  const int64_t y = pixels_of_y(s) * s.filters;
  const int64_t x = s.batch * s.height * s.width * s.channels;
  return {2 * direct_multiply_adds(s), int64_t{sizeof(float)} * (x + y + weight_count(s))};
}

// The way that takes least, by what each costs in multiply-adds of direct sums; at a draw the first. A batch-invariant plan
// is that of one image: for so few, maps' spectra cost too much, and tiles pay where the weights' are kept. On a GPU tiles
// were not measured, and no more than the direct sums' kernel is needed for one image.
ConvWay fastest_way(ConvShape s, bool batch_invariant, bool keeps_w_spectra) {
  if (batch_invariant) s.batch = 1;
  ConvWay fastest = ConvWay::kDirect;
  int64_t least = direct_multiply_adds(s);
  const auto consider = [&](ConvWay way, int64_t multiply_adds) {
    if (multiply_adds < least) fastest = way, least = multiply_adds;
  };
  const int points = batch_invariant ? 0 : fourier_points(s);
  if (points) consider(ConvWay::kFourier, fourier_multiply_adds(s, points, keeps_w_spectra));
  if (kRunsOnCores && winograd_fits(s)) consider(ConvWay::kWinograd, winograd_multiply_adds(s, keeps_w_spectra));
  return fastest;
}

// How a convolution, or a gradient of it, is computed as `algorithm` asks or the rules say.
ConvWay way_for(const ConvShape& s, const ProductChoice& choice, bool batch_invariant, bool keeps_w_spectra = false) {
  const std::string_view algorithm = choice.algorithm;
  // Where operands are rounded tensor cores multiply them, faster than spectra could be written.
  const bool rounded = choice.precision == Precision::kTf32 || choice.precision == Precision::kBf16;
  if (algorithm.empty()) return rounded ? ConvWay::kDirect : fastest_way(s, batch_invariant, keeps_w_spectra);
  const auto require_fit = [&](bool fits, const auto&... needed) {
    require(fits, "algorithm is '", algorithm, "'; for that the stride must be 1, and ", needed...,
            ", but x has shape ", shape_text({s.batch, s.height, s.width, s.channels}), ", the kernel is ",
            s.kernel_height, " x ", s.kernel_width, ", padding is ", s.padding, " and stride is ", s.stride);
  };
  if (algorithm == kFourier) {
    require_fit(fourier_points(s) > 0, "height, width and padding together at most ",
                kSpectrumPoints[std::size(kSpectrumPoints) - 1]);
    return ConvWay::kFourier;
  }
  if (algorithm == kWinograd) {
    require_fit(winograd_fits(s), "the kernel 3 x 3");
    return ConvWay::kWinograd;
  }
  const std::vector<std::string> known = conv_algorithms();
  std::string names;
  for (const std::string& name : known) names += (names.empty() ? "" : ", ") + name;
  require(std::find(known.begin(), known.end(), algorithm) != known.end(), "algorithm is '", algorithm,
          "'; on this device it must be one of ", names);
  return ConvWay::kDirect;
}

// Returns body(TransformedConv) for a correlation that belongs to the shape, by its way, which is not direct.
template <class Body>
auto with_transform(ConvWay way, const ConvShape& s, const Correlation& c, Body body) {
  if (way == ConvWay::kFourier) return body(TransformedConv(FourierTransform(c, fourier_points(s))));
  return body(TransformedConv(WinogradTransform(c)));
}

// What is left to say of the product where the sums are direct.
ProductChoice direct_product(const ProductChoice& choice) {
  return choice.algorithm == kDirect ? ProductChoice{.algorithm = {}, .precision = choice.precision} : choice;
}

}  // namespace

std::string ConvPlan::algorithm() const {
  switch (way) {
    case ConvWay::kFourier:
      return std::string(kFourier);
    case ConvWay::kWinograd:
      return std::string(kWinograd);
    case ConvWay::kDirect:
      break;
  }
  return product.algorithm;
}

std::vector<std::string> conv_algorithms() {
  std::vector<std::string> names{std::string(kDirect), std::string(kFourier), std::string(kWinograd)};
  const std::vector<std::string> products = product_algorithms();
  names.insert(names.end(), products.begin(), products.end());
  return names;
}

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

ConvPlan conv_forward_plan(const ConvShape& s, const ProductChoice& choice, bool batch_invariant,
                           bool keeps_w_spectra) {
  check_conv_shape(s);
  const ConvWay way = way_for(s, choice, batch_invariant, keeps_w_spectra);
  if (way != ConvWay::kDirect) {
    return with_transform(way, s, forward_of(s), [&](const auto& conv) -> ConvPlan {
      const ProductPlan product = conv.plan_forward(choice.precision, batch_invariant);
      const int64_t workspace_bytes = conv.forward_workspace_bytes(product, keeps_w_spectra);
      return {{"conv_forward", s, product, workspace_bytes}, way, conv.x_bytes(), keeps_w_spectra ? conv.w_bytes() : 0};
    });
  }
  const int64_t image_rows = batch_invariant ? s.out_height() * s.out_width() : 0;
  const ProductPlan product =
      plan_product({pixels_of_y(s), s.filters, terms_of(s, s.channels), s.groups, image_rows, has_ragged_runs(s)},
                   direct_product(choice));
  return {{"conv_forward", s, product, product.workspace_bytes}};
}

ConvPlan conv_backward_input_plan(const ConvShape& s, const ProductChoice& choice) {
  check_conv_shape(s);
  const ConvWay way = way_for(s, choice, false);
  if (way != ConvWay::kDirect) {
    return with_transform(way, s, input_gradient_of(s), [&](const auto& conv) -> ConvPlan {
      const ProductPlan product = conv.plan_forward(choice.precision, false);
      const int64_t bytes = InputGradientWorkspace(s).weight_bytes + conv.forward_workspace_bytes(product);
      return {{"conv_backward_input", s, product, bytes}, way};
    });
  }
  const InputGradientWorkspace sizes(s);
  const StridedGradient g(s);
  const ProductPlan product =
      plan_product({g.pixels(s.batch), g.columns(), g.terms(), s.groups}, direct_product(choice));
  return {{"conv_backward_input", s, product, sizes.weight_bytes + sizes.phase_bytes + product.workspace_bytes}};
}

ConvPlan conv_backward_weight_plan(const ConvShape& s, const ProductChoice& choice) {
  check_conv_shape(s);
  const ConvWay way = way_for(s, choice, false);
  if (way != ConvWay::kDirect) {
    return with_transform(way, s, forward_of(s), [&](const auto& conv) -> ConvPlan {
      const ProductPlan product = conv.plan_weight_gradient(choice.precision);
      const int64_t bytes = conv.weight_gradient_workspace_bytes(product);
      return {{"conv_backward_weight", s, product, bytes}, way, conv.x_bytes()};
    });
  }
  const int64_t rows = terms_of(s, s.channels) + 1;  // the bias's gradient is one more
  const ProductPlan product = plan_product(
      {rows, s.filters, pixels_of_y(s), s.groups, /*image_rows=*/0, has_ragged_runs(s)}, direct_product(choice));
  return {{"conv_backward_weight", s, product, product.workspace_bytes}};
}

void conv_x_spectra(const ConvPlan& plan, float* spectra, const float* x, const ImageStrides& x_strides,
                    cudaStream_t stream) {
  with_transform(plan.way, plan.shape, forward_of(plan.shape),
                 [&](const auto& conv) { conv.transform_x(spectra, x, x_strides, stream); });
}

void conv_w_spectra(const ConvPlan& plan, float* spectra, const float* w, cudaStream_t stream) {
  with_transform(plan.way, plan.shape, forward_of(plan.shape),
                 [&](const auto& conv) { conv.transform_w(spectra, w, stream); });
}

void conv_forward(const ConvPlan& plan, float* y, const float* x, const ImageStrides& x_strides, const float* w,
                  const float* bias, bool relu, const float* x_spectra, const float* w_spectra, void* workspace,
                  cudaStream_t stream) {
  const ConvShape& s = plan.shape;
  if (plan.way != ConvWay::kDirect) {
    return with_transform(plan.way, s, forward_of(s), [&](const auto& conv) {
      conv.forward(plan.product, y, {x, x_strides, x_spectra}, {w, w_spectra}, bias, relu, workspace, stream);
    });
  }
  const MatrixLayout layout = side_by_side(s.filters, s.groups);
  patches_times_matrix(plan.product, y, layout, patches_of_x(s, x, x_strides), w, layout, s.filters, s.groups, bias,
                       relu, workspace, stream);
}

void conv_backward_input(const ConvPlan& plan, float* dx, const float* dy, const float* w, void* workspace,
                         cudaStream_t stream) {
  const ConvShape& s = plan.shape;
  const InputGradientWorkspace sizes(s);
  Pieces pieces(workspace);
  float* const weights = pieces.take(sizes.weight_bytes);
  float* const phases = pieces.take(sizes.phase_bytes);
  void* const rest = pieces.rest();
  if (s.stride == 1) {
    flip_weights(weights, w, s, stream);
  } else {
    weights_by_phase(weights, w, s, stream);
  }
  if (plan.way != ConvWay::kDirect) {
    return with_transform(plan.way, s, input_gradient_of(s), [&](const auto& conv) {
      const ImageStrides strides = dense_strides(s.out_height(), s.out_width(), s.filters);
      conv.forward(plan.product, dx, {dy, strides, nullptr}, {weights, nullptr}, nullptr, false, rest, stream);
    });
  }
  const int64_t columns = StridedGradient(s).columns();
  const MatrixLayout layout = side_by_side(columns, s.groups);
  patches_times_matrix(plan.product, s.stride == 1 ? dx : phases, layout, patches_of_dy(s, dy), weights, layout,
                       columns, s.groups, nullptr, false, rest, stream);
  if (s.stride > 1) pixels_of_phases(dx, phases, s, stream);
}

void conv_backward_weight(const ConvPlan& plan, float* dw, float* db, const float* x, const ImageStrides& x_strides,
                          const float* dy, const float* x_spectra, void* workspace, cudaStream_t stream) {
  const ConvShape& s = plan.shape;
  if (plan.way != ConvWay::kDirect) {
    return with_transform(plan.way, s, forward_of(s), [&](const auto& conv) {
      conv.weight_gradient(plan.product, dw, db, {x, x_strides, x_spectra}, dy, workspace, stream);
    });
  }
  const MatrixLayout layout = side_by_side(s.filters, s.groups);
  transposed_patches_times_matrix(plan.product, dw, db, layout, patches_of_x(s, x, x_strides), dy, layout, s.filters,
                                  s.groups, workspace, stream);
}

Cost conv_x_spectra_cost(const ConvShape&) {
  return {0, 0};
}
Cost conv_w_spectra_cost(const ConvShape&) {
  return {0, 0};
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
