// Convolution (cross-correlation) over NHWC images with HWIO weights, Krizhevsky et al. 2012, section 3.5.
//
//   forward           y[n,oy,ox,k]   = relu(b[k] + sum over ky,kx,c of x[n, oy s + ky - p, ox s + kx - p, c] w[ky,kx,c,k])
//   backward, input   dx[n,iy,ix,c]  = sum over oy,ox,k with iy = oy s + ky - p, ix = ox s + kx - p of dy[n,oy,ox,k] w[ky,kx,c,k]
//   backward, weight  dw[ky,kx,c,k]  = sum over n,oy,ox of x[n, oy s + ky - p, ox s + kx - p, c] dy[n,oy,ox,k]
//                     db[k]          = sum over n,oy,ox of dy[n,oy,ox,k]
//
// s is the stride, p the padding; x is zero outside the image. With several groups, group g's filters see the g-th
// part of the channels only, and w has channels / groups channels. dy is the gradient behind bias and before ReLU.
//
// y = P w for the patch matrix P (device/patches.cuh), dw = P^T dy, and dx is the forward convolution of dy with the
// flipped and transposed weights; where there is a stride, with those of each of its phases (kernels/phases.cuh). The
// kernels are those of kernels/patch_product.cu: their main loop is multiply_block there. Other ways to
// the same are those of kernels/transformed_conv.cuh, with fewer multiplications: by Fourier's transform of whole maps and
// by Winograd's of small tiles.
//
// A plan says how; it is made once, from the shape alone, and throws std::invalid_argument for shapes that make no
// sense. Launchers are asynchronous and expect a plan of their own operation, device pointers on the stream's device,
// y, dx, dy, w, dw dense, and a workspace of the plan's bytes, aligned to 16.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"
#include "kernels/product_plan.cuh"

namespace pyalexnet {

struct ConvShape {
  int64_t batch, height, width, channels;  // of x, all groups together
  int64_t filters;                         // all groups together
  int64_t kernel_height, kernel_width;
  int64_t stride = 1, padding = 0, groups = 1;

  int64_t out_height() const { return (height + 2 * padding - kernel_height) / stride + 1; }
  int64_t out_width() const { return (width + 2 * padding - kernel_width) / stride + 1; }
};

// In floats. A pixel's channels are contiguous; pixels may stand in a wider array, rows may be padded.
struct ImageStrides {
  int64_t image, row, pixel;
};

// Throws std::invalid_argument, naming x, w, stride, padding or groups, unless they fit together.
void check_conv_shape(const ConvShape& shape);

// The strides of dense images, and of a dense x.
inline ImageStrides dense_strides(int64_t height, int64_t width, int64_t channels) {
  return {height * width * channels, width * channels, channels};
}
inline ImageStrides dense_strides(const ConvShape& s) {
  return dense_strides(s.height, s.width, s.channels);
}

// Sums over the windows, or products of what a transform makes of x and w, which are called their spectra.
enum class ConvWay { kDirect, kFourier, kWinograd };

struct ConvPlan : OperationPlan<ConvShape> {
  ConvWay way = ConvWay::kDirect;
  int64_t x_spectra_bytes = 0;  // of conv_x_spectra, for the forward pass and the gradient by the weights
  int64_t w_spectra_bytes = 0;  // of conv_w_spectra, for a forward pass that is given them

  std::string algorithm() const;
};

// What may be asked for on this target: direct, sums over the windows, by one of product_algorithms() as the rules say;
// one of these by its name; fourier (kernels/fourier_conv.cuh); or winograd (kernels/winograd_conv.cuh).
std::vector<std::string> conv_algorithms();

// choice.algorithm is one of conv_algorithms(); empty, the rules choose. Throws std::invalid_argument naming algorithm
// where it is none, or none for the shape. batch_invariant: an image's bits do not depend on the batch
// (product_plan.cuh).
// keeps_w_spectra: where the forward pass multiplies spectra, it is given those of the weights, kept from pass to pass.
ConvPlan conv_forward_plan(const ConvShape& shape, const ProductChoice& choice = {}, bool batch_invariant = false,
                           bool keeps_w_spectra = false);
ConvPlan conv_backward_input_plan(const ConvShape& shape, const ProductChoice& choice = {});
ConvPlan conv_backward_weight_plan(const ConvShape& shape, const ProductChoice& choice = {});

// The spectra of x, by a plan of the forward pass that has x_spectra_bytes of them. Whoever computes y and dw of one x, or
// y of one x with several weights, transforms it once.
void conv_x_spectra(const ConvPlan& plan, float* spectra, const float* x, const ImageStrides& x_strides,
                    cudaStream_t stream);
// The spectra of w, by a plan of the forward pass that has w_spectra_bytes of them.
void conv_w_spectra(const ConvPlan& plan, float* spectra, const float* w, cudaStream_t stream);
// bias: filters floats, or nullptr for none. x_spectra: of this x, or nullptr. w_spectra: of this w where the plan keeps
// them, or nullptr.
void conv_forward(const ConvPlan& plan, float* y, const float* x, const ImageStrides& x_strides, const float* w,
                  const float* bias, bool relu, const float* x_spectra, const float* w_spectra, void* workspace,
                  cudaStream_t stream);
void conv_backward_input(const ConvPlan& plan, float* dx, const float* dy, const float* w, void* workspace,
                         cudaStream_t stream);
// db: filters floats, or nullptr where it is not wanted. x_spectra: of this x, or nullptr.
void conv_backward_weight(const ConvPlan& plan, float* dw, float* db, const float* x, const ImageStrides& x_strides,
                          const float* dy, const float* x_spectra, void* workspace, cudaStream_t stream);

// A convolution counts as direct sums, of which spectra are no part.
Cost conv_x_spectra_cost(const ConvShape& shape);
Cost conv_w_spectra_cost(const ConvShape& shape);
Cost conv_forward_cost(const ConvShape& shape);
Cost conv_backward_input_cost(const ConvShape& shape);
Cost conv_backward_weight_cost(const ConvShape& shape);

}  // namespace pyalexnet
