// Convolution by the spectra of whole maps (kernels/spectra.cuh), for stride 1 and maps that fit on a small torus.
//
// On a torus of N points a side, a convolution's spectrum is the product of the image's and the filter's. With N no less
// than the image and its padding on one side, what is wrapped around meets zeros, and the result is the convolution's.
// So each of some N^2/2 complex frequencies, of three real products each, has planes of its own, in which a row is an
// image (kernels/transformed_conv.cuh); for the weights' gradient dy is reversed, its point o at -o. For AlexNet's maps of
// 13 x 13 with 3 x 3 kernels, 1521 multiply-adds become 292, for those of 27 x 27 with 5 x 5 kernels 18225 become 1348.
// In float32 the error is that of the direct sums, since all that is multiplied is of their size.
//
// A number that is not finite spreads over the whole map.
#pragma once

#include "kernels/transformed_conv.cuh"

namespace pyalexnet {

// The points that a convolution needs, of those that there are; 0 where this is no way to compute it or its gradients.
int fourier_points(const ConvShape& shape);

// What it costs by so many points, in multiply-adds of direct sums: where the weights' spectra are computed too, as in a
// training step, or where they are kept.
int64_t fourier_multiply_adds(const ConvShape& shape, int points, bool keeps_w_spectra);

class FourierTransform {
 public:
  FourierTransform(const Correlation& correlation, int points) : c_(correlation), points_(points) {}

  const Correlation& correlation() const { return c_; }
  int64_t planes() const;
  int64_t rows() const { return c_.batch; }
  int64_t image_rows() const { return 1; }
  int64_t sums_plane() const { return 0; }  // that of frequency 0, a map's sum

  void of_images(float* spectra, const PlaneLayout& layout, const float* in, const ImageStrides& strides,
                 cudaStream_t stream) const;
  void of_weights(float* spectra, const PlaneLayout& layout, const float* w, cudaStream_t stream) const;
  void of_gradients(float* spectra, const PlaneLayout& layout, const float* dy, cudaStream_t stream) const;
  void to_images(float* out, const float* products, const PlaneLayout& layout, const float* bias, bool relu,
                 cudaStream_t stream) const;
  void to_weights(float* dw, const float* products, const PlaneLayout& layout, cudaStream_t stream) const;

 private:
  Correlation c_;
  int points_;  // of the torus, a side
};

}  // namespace pyalexnet
