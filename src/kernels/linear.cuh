// The fully connected layer: every output sees every input.
//
//   forward           y[n,o]  = relu(b[o] + sum over i of x[n,i] w[i,o])
//   backward, input   dx[n,i] = sum over o of dy[n,o] w[i,o]
//   backward, weight  dw[i,o] = sum over n of x[n,i] dy[n,o],   db[o] = sum over n of dy[n,o]
//
// dy is the gradient behind bias and before ReLU. Rows of x, y and dy are a pitch (in floats) apart, so that they may
// be slices of wider arrays; w, dw and dx are dense.
//
// It is the 1x1 convolution of 1x1 images, and runs as that (kernels/patch_product.cuh). The gradient of the input
// takes the rows of w, not of dy, for its images: dx^T = w dy^T, so that the one large matrix is read as it lies.
//
// Launchers are asynchronous, expect device pointers on the stream's device, and throw std::invalid_argument for
// shapes that make no sense. `workspace` needs linear_*_workspace_bytes, aligned to 16 bytes.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

struct LinearShape {
  int64_t batch, inputs, outputs;
};

// bias: outputs floats, or nullptr for none.
void linear_forward(const LinearShape& shape, float* y, int64_t y_pitch, const float* x, int64_t x_pitch,
                    const float* w, const float* bias, bool relu, void* workspace, cudaStream_t stream);
void linear_backward_input(const LinearShape& shape, float* dx, const float* dy, int64_t dy_pitch, const float* w,
                           void* workspace, cudaStream_t stream);
// db: outputs floats, or nullptr where it is not wanted.
void linear_backward_weight(const LinearShape& shape, float* dw, float* db, const float* x, int64_t x_pitch,
                            const float* dy, int64_t dy_pitch, void* workspace, cudaStream_t stream);

int64_t linear_forward_workspace_bytes(const LinearShape& shape);
int64_t linear_backward_input_workspace_bytes(const LinearShape& shape);
int64_t linear_backward_weight_workspace_bytes(const LinearShape& shape);

Cost linear_forward_cost(const LinearShape& shape);
Cost linear_backward_input_cost(const LinearShape& shape);
Cost linear_backward_weight_cost(const LinearShape& shape);

}  // namespace pyalexnet
