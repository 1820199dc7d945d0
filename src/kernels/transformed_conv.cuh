// Convolution in a domain where it is a product of numbers: x and w are transformed, each number of the transform to a
// plane of its own (kernels/planes.cuh), the planes are multiplied as matrices, and what they give is transformed back.
//
//   y_hat[r, k]  = sum over c of x_hat[r, c] w_hat[c, k]       rows x channels times channels x filters
//   dw_hat[c, k] = sum over r of x_hat[r, c] dy_hat[r, k]
//
// in each plane, which are the groups of one grouped product (kernels/patch_product.cuh); dx is y for dy and the flipped
// weights. A transform says what a row and a plane are: kernels/fourier_conv.cuh and kernels/winograd_conv.cuh. It has
//
//   correlation()          what is transformed
//   planes(), rows()       the matrices, and their rows of all images
//   image_rows()           those of one image
//   sums_plane()           the plane of dy_hat whose sum over all rows is dy's
//   of_images(), of_weights(), of_gradients()   x, w and dy to their planes
//   to_images(), to_weights()                   the products' planes to y, behind bias and ReLU, and to dw
#pragma once

#include "device/launch.cuh"
#include "device/workspace.h"
#include "kernels/conv.cuh"
#include "kernels/layer_patches.cuh"
#include "kernels/patch_product.cuh"
#include "kernels/planes.cuh"

namespace pyalexnet {

// out[n, o, k] = sum over taps t and channels c of in[n, o + t - padding, c] w[t, c, k], in both directions.
struct Correlation {
  int64_t batch;
  int64_t in_height, in_width, channels;
  int64_t out_height, out_width, filters;
  int64_t kernel_height, kernel_width;
  int64_t padding_top, padding_left;  // may be negative
  int64_t groups;
};

// y of x and w.
inline Correlation forward_of(const ConvShape& s) {
  return {s.batch,   s.height,        s.width,        s.channels, s.out_height(), s.out_width(),
          s.filters, s.kernel_height, s.kernel_width, s.padding,  s.padding,      s.groups};
}

// dx of dy and the flipped weights, where the stride is 1.
inline Correlation input_gradient_of(const ConvShape& s) {
  return {s.batch,
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

// Images and weights with their transforms, called spectra; nullptr where these are still to be computed, in the workspace.
struct Images {
  const float* data;
  ImageStrides strides;
  const float* spectra;
};
struct Weights {
  const float* data;
  const float* spectra;
};

// What an element of the planes costs, written and read, in multiply-adds of a product, and what one of the weights' costs
// that is kept: it is read alone.
struct ElementCosts {
  int64_t multiply_adds, kept_multiply_adds;
};

// What a convolution costs by so many planes, of so many rows for all images, in multiply-adds of direct sums.
inline int64_t transformed_multiply_adds(const ConvShape& s, int64_t planes, int64_t rows, const ElementCosts& costs,
                                         bool keeps_w_spectra) {
  const int64_t depth = s.channels / s.groups;
  const int64_t products = planes * rows * depth * s.filters;
  const int64_t maps = planes * rows * (s.channels + s.filters), weights = planes * depth * s.filters;
  return products + costs.multiply_adds * maps +
         (keeps_w_spectra ? costs.kept_multiply_adds : costs.multiply_adds) * weights;
}

// A convolution by a transform.
template <class Transform>
class TransformedConv {
 public:
  explicit TransformedConv(const Transform& transform)
      : transform_(transform),
        c_(transform.correlation()),
        x_{transform.rows(), c_.channels / c_.groups, c_.groups},
        w_{c_.channels / c_.groups, c_.filters / c_.groups, c_.groups},
        y_{transform.rows(), c_.filters / c_.groups, c_.groups},
        dw_{w_.rows + 1, w_.columns, w_.groups} {}

  // How the planes are multiplied, for the forward pass as for the gradient by the weights, and what workspace it takes.
  ProductPlan plan_forward(Precision precision, bool batch_invariant) const {
    return plan_product(
        {x_.rows, all_filters(), x_.columns, all_groups(), batch_invariant ? transform_.image_rows() : int64_t{0}},
        {.algorithm = {}, .precision = precision});
  }
  ProductPlan plan_weight_gradient(Precision precision) const {
    return plan_product({dw_.rows, all_filters(), x_.rows, all_groups()}, {.algorithm = {}, .precision = precision});
  }
  int64_t forward_workspace_bytes(const ProductPlan& product, bool keeps_w_spectra = false) const {
    return x_bytes() + (keeps_w_spectra ? 0 : w_bytes()) + bytes(y_) + product.workspace_bytes;
  }
  int64_t weight_gradient_workspace_bytes(const ProductPlan& product) const {
    return x_bytes() + bytes(y_) + bytes(dw_) + product.workspace_bytes;
  }

  // The images' and the weights' spectra, and the bytes that they take. Weights are dense.
  int64_t x_bytes() const { return bytes(x_); }
  int64_t w_bytes() const { return bytes(w_); }
  void transform_x(float* spectra, const float* x, const ImageStrides& strides, cudaStream_t stream) const {
    transform_.of_images(spectra, x_, x, strides, stream);
  }
  void transform_w(float* spectra, const float* w, cudaStream_t stream) const {
    transform_.of_weights(spectra, w_, w, stream);
  }

  // out = relu(correlation + bias); `bias` may be nullptr. out and w are dense.
  void forward(const ProductPlan& product, float* out, const Images& in, const Weights& w, const float* bias, bool relu,
               void* workspace, cudaStream_t stream) const {
    Pieces pieces(workspace);
    const float* const in_hat = spectra_of(in, pieces, stream);
    const float* const w_hat = spectra_of(w, pieces, stream);
    float* const out_hat = pieces.take(bytes(y_));
    patches_times_matrix(product, out_hat, matrices(y_), rows_of(in_hat), w_hat, matrices(w_), all_filters(),
                         all_groups(), nullptr, false, pieces.rest(), stream);
    transform_.to_images(out, out_hat, y_, bias, relu, stream);
  }

  // As conv_backward_weight.
  void weight_gradient(const ProductPlan& product, float* dw, float* db, const Images& x, const float* dy,
                       void* workspace, cudaStream_t stream) const {
    Pieces pieces(workspace);
    const float* const x_hat = spectra_of(x, pieces, stream);
    float* const dy_hat = pieces.take(bytes(y_));
    float* const dw_hat = pieces.take(bytes(dw_));
    float* const sums = dw_hat + (dw_.rows - 1) * dw_.columns;

    transform_.of_gradients(dy_hat, y_, dy, stream);
    transposed_patches_times_matrix(product, dw_hat, db ? sums : nullptr, matrices(dw_), rows_of(x_hat), dy_hat,
                                    matrices(y_), all_filters(), all_groups(), pieces.rest(), stream);
    transform_.to_weights(dw, dw_hat, dw_, stream);
    if (!db) return;
    const float* const plane_sums = sums + transform_.sums_plane() * dw_.plane_stride();
    for (int64_t group = 0; group < c_.groups; ++group) {
      PYALEXNET_CHECK_CUDA(cudaMemcpyAsync(db + group * dw_.columns, plane_sums + group * dw_.group_stride(),
                                           static_cast<size_t>(dw_.columns) * sizeof(float), cudaMemcpyDeviceToDevice,
                                           stream));
    }
  }

 private:
  int64_t all_groups() const { return transform_.planes() * c_.groups; }
  int64_t all_filters() const { return transform_.planes() * c_.filters; }

  int64_t bytes(const PlaneLayout& layout) const { return piece_bytes({transform_.planes(), layout.plane_stride()}); }

  static MatrixLayout matrices(const PlaneLayout& layout) { return {layout.columns, layout.group_stride()}; }

  Patches rows_of(const float* spectra) const {
    return patches_of_rows(spectra, x_.rows, x_.columns, x_.columns, x_.group_stride());
  }

  const float* spectra_of(const Images& in, Pieces& pieces, cudaStream_t stream) const {
    if (in.spectra) return in.spectra;
    float* const spectra = pieces.take(x_bytes());
    transform_x(spectra, in.data, in.strides, stream);
    return spectra;
  }
  const float* spectra_of(const Weights& w, Pieces& pieces, cudaStream_t stream) const {
    if (w.spectra) return w.spectra;
    float* const spectra = pieces.take(w_bytes());
    transform_w(spectra, w.data, stream);
    return spectra;
  }

  const Transform transform_;
  const Correlation c_;
  // The planes of x, w and y, and of the weights' gradient, which has a row more for the bias's.
  const PlaneLayout x_, w_, y_, dw_;
};

}  // namespace pyalexnet
