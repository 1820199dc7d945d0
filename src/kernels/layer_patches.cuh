// The patch matrices of convolutions and linear layers: what kernels/patch_product.cuh multiplies for them.
#pragma once

#include "device/patches.cuh"
#include "kernels/phases.cuh"

namespace pyalexnet {

inline int64_t pixels_of_y(const ConvShape& s) {
  return s.batch * s.out_height() * s.out_width();
}

// The patches that the filters see in x.
inline Patches patches_of_x(const ConvShape& s, const float* x, const ImageStrides& strides) {
  Patches p{};
  p.input = x;
  p.group_stride = s.channels / s.groups;
  p.image_stride = strides.image, p.row_stride = strides.row, p.pixel_stride = strides.pixel;
  p.height = static_cast<int>(s.height), p.width = static_cast<int>(s.width);
  p.out_height = static_cast<int>(s.out_height()), p.out_width = static_cast<int>(s.out_width());
  p.kernel_height = static_cast<int>(s.kernel_height), p.kernel_width = static_cast<int>(s.kernel_width);
  p.run = static_cast<int>(s.channels / s.groups);
  // A kernel row that cannot reach into padding is one run.
  if (s.padding == 0 && s.groups == 1 && strides.pixel == s.channels) {
    p.run *= p.kernel_width;
    p.kernel_width = 1;
  }
  p.padded_run = p.run;
  p.stride = static_cast<int>(s.stride);
  p.padding_top = p.padding_left = static_cast<int>(s.padding);
  p.pixels = pixels_of_y(s);
  const int64_t step = s.padding == 0 ? s.stride * strides.pixel : strides.pixel;
  p.aligned = vectors_aligned(x, strides.image, strides.row, step, p.kernel_width == 1 ? 0 : strides.pixel,
                              s.groups == 1 ? 0 : p.group_stride);
  return p;
}

// Whether x's patches have runs of no whole quads, as conv1's 33 floats, all inside the image and long enough that a slice
// reaches into the next one at most.
inline bool has_ragged_runs(const ConvShape& s) {
  constexpr int kLongEnough = 8;
  const Patches p = patches_of_x(s, nullptr, dense_strides(s));
  return p.is_inside() && p.run % 4 != 0 && p.run >= kLongEnough;
}

// The patches of dy that the pixels of x were seen by, those of all phases together (kernels/phases.cuh).
inline Patches patches_of_dy(const ConvShape& s, const float* dy) {
  Patches p{};
  p.input = dy;
  p.group_stride = s.filters / s.groups;
  p.pixel_stride = s.filters, p.row_stride = s.out_width() * p.pixel_stride,
  p.image_stride = s.out_height() * p.row_stride;
  p.height = static_cast<int>(s.out_height()), p.width = static_cast<int>(s.out_width());
  const StridedGradient g(s);
  p.out_height = static_cast<int>(g.down.extent), p.out_width = static_cast<int>(g.across.extent);
  p.kernel_height = static_cast<int>(g.down.taps), p.kernel_width = static_cast<int>(g.across.taps);
  p.run = p.padded_run = static_cast<int>(s.filters / s.groups);
  p.stride = 1;
  p.padding_top = static_cast<int>(g.down.taps - 1 - g.down.first);
  p.padding_left = static_cast<int>(g.across.taps - 1 - g.across.first);
  p.pixels = g.pixels(s.batch);
  p.aligned = vectors_aligned(dy, s.filters, s.groups == 1 ? 0 : p.group_stride);
  return p;
}

// A matrix of rows x columns as the patch matrix of 1x1 kernels: each of its rows is a pixel of images of one row. Several
// groups have matrices of their own, so far apart.
inline Patches patches_of_rows(const float* matrix, int64_t rows, int64_t columns, int64_t pitch,
                               int64_t group_stride = 0) {
  Patches p{};
  p.input = matrix;
  p.group_stride = group_stride;
  p.width = p.out_width = 1024;  // any number: where one image ends and the next begins makes no difference
  p.pixel_stride = pitch;
  p.image_stride = p.width * pitch;
  p.height = p.out_height = p.kernel_height = p.kernel_width = p.stride = 1;
  p.run = p.padded_run = static_cast<int>(columns);
  p.pixels = rows;
  p.aligned = vectors_aligned(matrix, pitch, group_stride);
  return p;
}

}  // namespace pyalexnet
