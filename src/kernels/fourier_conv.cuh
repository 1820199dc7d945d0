// Convolution by the spectra of whole maps (kernels/spectra.cuh), for stride 1 and maps that fit on a small torus.
//
// On a torus of N points a side, a convolution's spectrum is the product of the image's and the filter's. With N no less
// than the image and its padding on one side, what is wrapped around meets zeros, and the result is the convolution's.
// So for each of some N^2/2 complex frequencies, of three real products each,
//
//   y_hat[n, k]  = sum over c of x_hat[n, c] w_hat[c, k]       images x channels times channels x filters
//   dw_hat[c, k] = sum over n of x_hat[n, c] dy_hat[n, k]      with dy reversed, its point o at -o
//
// which are the groups of one grouped product (kernels/patch_product.cuh); dx is y for dy and the flipped weights. For
// AlexNet's maps of 13 x 13 with 3 x 3 kernels, 1521 multiply-adds become 292, for those of 27 x 27 with 5 x 5 kernels
// 18225 become 1348. In float32 the error is that of the direct sums, since all that is multiplied is of their size.
//
// A number that is not finite spreads over the whole map.
#pragma once

#include "device/platform.cuh"
#include "kernels/conv.cuh"

namespace pyalexnet {

// out[n, o, k] = sum over taps t and channels c of in[n, o + t - padding, c] w[t, c, k], in both directions.
struct Correlation {
  int points;  // of the torus, a side
  int64_t batch;
  int64_t in_height, in_width, channels;
  int64_t out_height, out_width, filters;
  int64_t kernel_height, kernel_width;
  int64_t padding_top, padding_left;  // may be negative
  int64_t groups;
};

// The points that a convolution needs, of those that there are; 0 where this is no way to compute it or its gradients.
int fourier_points(const ConvShape& shape);

// Whether it is the faster way, with so many points: where the weights' spectra are computed too, as in a training step, or
// where they are kept.
bool fourier_pays(const ConvShape& shape, int points, bool keeps_w_spectra);

// y of x and w; dx of dy and the flipped weights.
Correlation forward_of(const ConvShape& shape, int points);
Correlation input_gradient_of(const ConvShape& shape, int points);

// How the spectra are multiplied, for the forward pass as for the gradient by the weights, and what workspace it takes.
ProductPlan plan_correlation(const Correlation& c, Precision precision, bool batch_invariant);
ProductPlan plan_weight_gradient(const Correlation& forward, Precision precision);
int64_t correlation_workspace_bytes(const Correlation& c, const ProductPlan& product, bool keeps_w_spectra = false);
int64_t weight_gradient_workspace_bytes(const Correlation& forward, const ProductPlan& product);

// The images' spectra, and the bytes that they take.
int64_t image_spectra_bytes(const Correlation& c);
void image_spectra(const Correlation& c, float* spectra, const float* in, const ImageStrides& in_strides,
                   cudaStream_t stream);

// Those of the weights, which are dense.
int64_t weight_spectra_bytes(const Correlation& c);
void weight_spectra(const Correlation& c, float* spectra, const float* w, cudaStream_t stream);

// Images and weights with their spectra; nullptr where these are still to be computed, in the workspace.
struct Images {
  const float* data;
  ImageStrides strides;
  const float* spectra;
};
struct Weights {
  const float* data;
  const float* spectra;
};

// out = relu(correlation + bias); `bias` may be nullptr. out and w are dense.
void correlate(const Correlation& c, const ProductPlan& product, float* out, const Images& in, const Weights& w,
               const float* bias, bool relu, void* workspace, cudaStream_t stream);

// As conv_backward_weight.
void correlate_for_weights(const Correlation& forward, const ProductPlan& product, float* dw, float* db,
                           const Images& x, const float* dy, void* workspace, cudaStream_t stream);

}  // namespace pyalexnet
