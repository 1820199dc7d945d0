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

// `right` is dense. `bias` has a value a column or is nullptr. `out` has a row a pixel, out_pitch floats apart.
void patches_times_matrix(const ProductPlan& plan, float* out, int64_t out_pitch, const Patches& patches,
                          const float* right, int64_t columns, int64_t groups, const float* bias, bool relu,
                          void* workspace, cudaStream_t stream);

// `right` has a row a pixel, right_pitch floats apart. `sums` may be nullptr. `out` is dense.
void transposed_patches_times_matrix(const ProductPlan& plan, float* out, float* sums, const Patches& patches,
                                     const float* right, int64_t right_pitch, int64_t columns, int64_t groups,
                                     void* workspace, cudaStream_t stream);

}  // namespace pyalexnet
