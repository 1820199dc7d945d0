// Convolution by Winograd's F(2 x 2, 3 x 3) (device/winograd.cuh), for kernels of 3 x 3 and stride 1.
//
// A tile of 2 x 2 results takes a patch of 4 x 4 pixels, of which 16 numbers are made. Each has a plane of its own, in
// which a row is a tile (kernels/transformed_conv.cuh), so that 36 multiply-adds become 16; of AlexNet's 13 x 13 results,
// which 7 x 7 tiles cover, 1521 become 784. In float32 the error is about that of the direct sums, as nothing is multiplied by
// more than 1. Larger tiles would save more, at more than twice that error.
//
// Beside spectra (kernels/fourier_conv.cuh) this saves less, and pays for a single image: a tile's results depend on nothing
// else, and the weights become less than twice as many numbers, not thirty times.
//
// A number that is not finite spreads over the tiles that see it.
#pragma once

#include "kernels/transformed_conv.cuh"

namespace pyalexnet {

// Whether this is a way to compute a convolution and its gradients.
bool winograd_fits(const ConvShape& shape);

// What it costs, in multiply-adds of direct sums: where the weights' points are computed too, or where they are kept.
int64_t winograd_multiply_adds(const ConvShape& shape, bool keeps_w_spectra);

class WinogradTransform {
 public:
  explicit WinogradTransform(const Correlation& correlation) : c_(correlation) {}

  const Correlation& correlation() const { return c_; }
  int64_t planes() const { return 16; }
  int64_t rows() const { return c_.batch * image_rows(); }
  int64_t image_rows() const { return tiles_down() * tiles_across(); }
  int64_t sums_plane() const { return 5; }  // of points 1 and 1, where A dy A^T adds up the tile

  void of_images(float* points, const PlaneLayout& layout, const float* in, const ImageStrides& strides,
                 cudaStream_t stream) const;
  void of_weights(float* points, const PlaneLayout& layout, const float* w, cudaStream_t stream) const;
  void of_gradients(float* points, const PlaneLayout& layout, const float* dy, cudaStream_t stream) const;
  void to_images(float* out, const float* products, const PlaneLayout& layout, const float* bias, bool relu,
                 cudaStream_t stream) const;
  void to_weights(float* dw, const float* products, const PlaneLayout& layout, cudaStream_t stream) const;

 private:
  int64_t tiles_down() const { return (c_.out_height + 1) / 2; }
  int64_t tiles_across() const { return (c_.out_width + 1) / 2; }

  Correlation c_;
};

}  // namespace pyalexnet
