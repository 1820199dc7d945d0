// Matrix products with the patch matrix of a convolution (device/patches.cuh), on which convolution and linear
// layers stand. P is the patch matrix, groups apart:
//
//   patches_times_matrix           out = P right             pixels x columns, plus bias and ReLU on request
//   transposed_patches_times_matrix out = P^T right          (taps x run) x columns, and the sums of right's columns
//
// Both cut a product whose result is small along its sums too; the parts are then added in a fixed order. How a
// product is cut depends on its shape and the target's tiles alone, so the result's bits do too.
#pragma once

#include "device/patches.cuh"

namespace pyalexnet {

// out = P right + bias, then ReLU if `relu`. `right` is (slots without padding) x (columns of all groups), dense;
// group g multiplies its patches with the g-th of `groups` equal parts of the columns. `bias` has a value a column
// or is nullptr. `out` has a row a pixel, out_pitch floats apart.
void patches_times_matrix(float* out, int64_t out_pitch, const Patches& patches, const float* right, int64_t columns,
                          int groups, const float* bias, bool relu, void* workspace, cudaStream_t stream);

// out = P^T right for `right` with a row a pixel, right_pitch floats apart; sums = the sums of right's columns unless
// nullptr. `out` is dense.
void transposed_patches_times_matrix(float* out, float* sums, const Patches& patches, const float* right,
                                     int64_t right_pitch, int64_t columns, int groups, void* workspace,
                                     cudaStream_t stream);

// Bytes that `workspace` must have for these.
int64_t patches_times_matrix_workspace_bytes(const Patches& patches, int64_t columns, int groups);
int64_t transposed_patches_times_matrix_workspace_bytes(const Patches& patches, int64_t columns, int groups);

}  // namespace pyalexnet
