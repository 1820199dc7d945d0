// The fully connected layer: every output sees every input.
//
//   forward           y[n,o]  = relu(b[o] + sum over i of x[n,i] w[i,o])
//   backward, input   dx[n,i] = sum over o of dy[n,o] w[i,o]
//   backward, weight  dw[i,o] = sum over n of x[n,i] dy[n,o],   db[o] = sum over n of dy[n,o]
//
// dy is the gradient behind bias and before ReLU. Rows of x, y and dy are a pitch (in floats) apart, so that they may
// be slices of wider arrays; w, dw and dx are dense.
//
// A matrix is the patch matrix of 1x1 kernels, so the kernels are those of convolutions (kernels/patch_product.cu). The
// gradient of the input takes the rows of w, not of dy, for its left matrix: dx^T = w dy^T, so that the one large matrix
// is read as it lies.
//
// A plan says how; it is made once, from the shape alone, and throws std::invalid_argument for shapes that make no
// sense. Launchers are asynchronous and expect a plan of their own operation, device pointers on the stream's device,
// and a workspace of the plan's bytes, aligned to 16.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"
#include "kernels/product_plan.cuh"

namespace pyalexnet {

struct LinearShape {
  int64_t batch, inputs, outputs;
};

using LinearPlan = OperationPlan<LinearShape>;

// batch_invariant: an image's bits do not depend on the batch (product_plan.cuh).
LinearPlan linear_forward_plan(const LinearShape& shape, const ProductChoice& choice = {},
                               bool batch_invariant = false);
LinearPlan linear_backward_input_plan(const LinearShape& shape, const ProductChoice& choice = {});
LinearPlan linear_backward_weight_plan(const LinearShape& shape, const ProductChoice& choice = {});

// bias: outputs floats, or nullptr for none.
void linear_forward(const LinearPlan& plan, float* y, int64_t y_pitch, const float* x, int64_t x_pitch, const float* w,
                    const float* bias, bool relu, void* workspace, cudaStream_t stream);
void linear_backward_input(const LinearPlan& plan, float* dx, const float* dy, int64_t dy_pitch, const float* w,
                           void* workspace, cudaStream_t stream);
// db: outputs floats, or nullptr where it is not wanted.
void linear_backward_weight(const LinearPlan& plan, float* dw, float* db, const float* x, int64_t x_pitch,
                            const float* dy, int64_t dy_pitch, void* workspace, cudaStream_t stream);

Cost linear_forward_cost(const LinearShape& shape);
Cost linear_backward_input_cost(const LinearShape& shape);
Cost linear_backward_weight_cost(const LinearShape& shape);

}  // namespace pyalexnet
