#include "kernels/linear.cuh"

#include "device/launch.cuh"
#include "device/sizes.h"
#include "device/workspace.h"
#include "kernels/layer_patches.cuh"
#include "kernels/patch_product.cuh"
#include "kernels/transpose.cuh"

namespace pyalexnet {

namespace {

void check(const LinearShape& s) {
  require(s.batch > 0 && s.inputs > 0, "x has shape ", shape_text({s.batch, s.inputs}), "; it must not be empty");
  require(s.outputs > 0, "w has shape ", shape_text({s.inputs, s.outputs}), "; it must not be empty");
  require(s.inputs <= kLargestExtent && s.outputs <= kLargestExtent, "w has shape ", shape_text({s.inputs, s.outputs}),
          "; it must have at most ", kLargestExtent, " inputs and outputs");
  float_bytes("y", {s.batch, s.outputs});
}

// The workspace of the input's gradient: dy^T, dx^T, then that of the product.
struct InputGradientWorkspace {
  int64_t dy_bytes, dx_bytes;

  explicit InputGradientWorkspace(const LinearShape& s)
      : dy_bytes(piece_bytes({s.batch, s.outputs})), dx_bytes(piece_bytes({s.batch, s.inputs})) {}
};

Cost cost(const LinearShape& s) {
  return {2 * s.batch * s.inputs * s.outputs,
          int64_t{sizeof(float)} * (s.batch * s.inputs + s.inputs * s.outputs + s.batch * s.outputs)};
}

}  // namespace

LinearPlan linear_forward_plan(const LinearShape& s, const ProductChoice& choice, bool batch_invariant) {
  check(s);
  const int64_t image_rows = batch_invariant ? 1 : 0;
  const ProductPlan product = plan_product({s.batch, s.outputs, s.inputs, 1, image_rows}, choice);
  return {"linear_forward", s, product, product.workspace_bytes};
}

LinearPlan linear_backward_input_plan(const LinearShape& s, const ProductChoice& choice) {
  check(s);
  const ProductPlan product = plan_product({s.inputs, s.batch, s.outputs}, choice);
  const InputGradientWorkspace sizes(s);
  return {"linear_backward_input", s, product, sizes.dy_bytes + sizes.dx_bytes + product.workspace_bytes};
}

LinearPlan linear_backward_weight_plan(const LinearShape& s, const ProductChoice& choice) {
  check(s);
  const int64_t rows = s.inputs + 1;  // the bias's gradient is one more
  const ProductPlan product = plan_product({rows, s.outputs, s.batch}, choice);
  return {"linear_backward_weight", s, product, product.workspace_bytes};
}

void linear_forward(const LinearPlan& plan, float* y, int64_t y_pitch, const float* x, int64_t x_pitch, const float* w,
                    const float* bias, bool relu, void* workspace, cudaStream_t stream) {
  const LinearShape& s = plan.shape;
  patches_times_matrix(plan.product, y, {y_pitch, 0}, patches_of_rows(x, s.batch, s.inputs, x_pitch), w, {s.outputs, 0},
                       s.outputs, 1, bias, relu, workspace, stream);
}

void linear_backward_input(const LinearPlan& plan, float* dx, const float* dy, int64_t dy_pitch, const float* w,
                           void* workspace, cudaStream_t stream) {
  const LinearShape& s = plan.shape;
  const InputGradientWorkspace sizes(s);
  Pieces pieces(workspace);
  float* const dy_transposed = pieces.take(sizes.dy_bytes);
  float* const dx_transposed = pieces.take(sizes.dx_bytes);
  transpose(dy_transposed, dy, one_matrix(s.batch, s.outputs, dy_pitch), stream);
  patches_times_matrix(plan.product, dx_transposed, {s.batch, 0}, patches_of_rows(w, s.inputs, s.outputs, s.outputs),
                       dy_transposed, {s.batch, 0}, s.batch, 1, nullptr, false, pieces.rest(), stream);
  transpose(dx, dx_transposed, one_matrix(s.inputs, s.batch, s.batch), stream);
}

void linear_backward_weight(const LinearPlan& plan, float* dw, float* db, const float* x, int64_t x_pitch,
                            const float* dy, int64_t dy_pitch, void* workspace, cudaStream_t stream) {
  const LinearShape& s = plan.shape;
  transposed_patches_times_matrix(plan.product, dw, db, {s.outputs, 0}, patches_of_rows(x, s.batch, s.inputs, x_pitch),
                                  dy, {dy_pitch, 0}, s.outputs, 1, workspace, stream);
}

Cost linear_forward_cost(const LinearShape& s) {
  return cost(s);
}
Cost linear_backward_input_cost(const LinearShape& s) {
  return cost(s);
}
Cost linear_backward_weight_cost(const LinearShape& s) {
  return cost(s);
}

}  // namespace pyalexnet
