// Matrix products with the patch matrix P of a convolution (device/patches.cuh), on which convolution and linear layers
// stand; groups are products of their own, side by side.
//
//   patches_times_matrix             out[r,k] = relu(bias[k] + sum over j of P[r,j] right[j,k])
//   transposed_patches_times_matrix  out[j,k] = sum over r of P[r,j] right[r,k],   sums[k] = sum over r of right[r,k]
//
// How they are computed is said by a plan (kernels/product_plan.cuh): its rows are P's, or P's columns and one more for
// `sums`, its columns those of right, its terms what is left of P. `workspace` needs the plan's bytes.
#pragma once

#include "device/patches.cuh"
#include "kernels/product_plan.cuh"

namespace pyalexnet {

// How far it is from a matrix's row to the next one, and from a group's matrix to the next group's, in floats.
struct MatrixLayout {
  int64_t pitch, group_stride;
};

// Groups' columns side by side.
inline MatrixLayout side_by_side(int64_t columns, int64_t groups) {
  return {columns, columns / groups};
}

// `columns` are those of all groups. `bias` has a value for each of them or is nullptr. `out` has a row a pixel.
void patches_times_matrix(const ProductPlan& plan, float* out, const MatrixLayout& out_layout, const Patches& patches,
                          const float* right, const MatrixLayout& right_layout, int64_t columns, int64_t groups,
                          const float* bias, bool relu, void* workspace, cudaStream_t stream);

// `right` has a row a pixel. `sums`, which may be nullptr, is a row like those of `out`.
void transposed_patches_times_matrix(const ProductPlan& plan, float* out, float* sums, const MatrixLayout& out_layout,
                                     const Patches& patches, const float* right, const MatrixLayout& right_layout,
                                     int64_t columns, int64_t groups, void* workspace, cudaStream_t stream);

}  // namespace pyalexnet
