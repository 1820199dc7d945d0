#include "kernels/linear.cuh"

#include "device/launch.cuh"
#include "device/sizes.h"
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

// A matrix of rows x columns as patches: each of its rows is a pixel of images of one row.
Patches rows_as_patches(const float* matrix, int64_t rows, int64_t columns, int64_t pitch) {
  Patches p{};
  p.input = matrix;
  p.width = p.out_width = 1024;  // any number: where one image ends and the next begins makes no difference
  p.pixel_stride = pitch;
  p.image_stride = p.width * pitch;
  p.height = p.out_height = p.kernel_height = p.kernel_width = p.stride = p.spread = 1;
  p.run = static_cast<int>(columns);
  p.run_slots = slots_of(columns);
  p.pixels = rows;
  p.aligned = vectors_aligned(matrix, pitch);
  return p;
}

// The workspace of the input's gradient: dy^T, dx^T, then that of the product.
struct InputGradientWorkspace {
  int64_t dy_bytes, dx_bytes;

  explicit InputGradientWorkspace(const LinearShape& s)
      : dy_bytes(ceil_div(s.batch * s.outputs * int64_t{sizeof(float)}, 256) * 256),
        dx_bytes(ceil_div(s.batch * s.inputs * int64_t{sizeof(float)}, 256) * 256) {}
};

Cost cost(const LinearShape& s) {
  return {2 * s.batch * s.inputs * s.outputs,
          int64_t{sizeof(float)} * (s.batch * s.inputs + s.inputs * s.outputs + s.batch * s.outputs)};
}

}  // namespace

void linear_forward(const LinearShape& s, float* y, int64_t y_pitch, const float* x, int64_t x_pitch, const float* w,
                    const float* bias, bool relu, void* workspace, cudaStream_t stream) {
  check(s);
  patches_times_matrix(y, y_pitch, rows_as_patches(x, s.batch, s.inputs, x_pitch), w, s.outputs, 1, bias, relu,
                       workspace, stream);
}

void linear_backward_input(const LinearShape& s, float* dx, const float* dy, int64_t dy_pitch, const float* w,
                           void* workspace, cudaStream_t stream) {
  check(s);
  const InputGradientWorkspace sizes(s);
  char* const memory = static_cast<char*>(workspace);
  float* const dy_transposed = reinterpret_cast<float*>(memory);
  float* const dx_transposed = reinterpret_cast<float*>(memory + sizes.dy_bytes);
  void* const rest = memory + sizes.dy_bytes + sizes.dx_bytes;
  transpose(dy_transposed, dy, one_matrix(s.batch, s.outputs, dy_pitch), stream);
  patches_times_matrix(dx_transposed, s.batch, rows_as_patches(w, s.inputs, s.outputs, s.outputs), dy_transposed,
                       s.batch, 1, nullptr, false, rest, stream);
  transpose(dx, dx_transposed, one_matrix(s.inputs, s.batch, s.batch), stream);
}

void linear_backward_weight(const LinearShape& s, float* dw, float* db, const float* x, int64_t x_pitch,
                            const float* dy, int64_t dy_pitch, void* workspace, cudaStream_t stream) {
  check(s);
  transposed_patches_times_matrix(dw, db, rows_as_patches(x, s.batch, s.inputs, x_pitch), dy, dy_pitch, s.outputs, 1,
                                  workspace, stream);
}

int64_t linear_forward_workspace_bytes(const LinearShape& s) {
  check(s);
  return patches_times_matrix_workspace_bytes(rows_as_patches(nullptr, s.batch, s.inputs, s.inputs), s.outputs, 1);
}

int64_t linear_backward_input_workspace_bytes(const LinearShape& s) {
  check(s);
  const InputGradientWorkspace sizes(s);
  const Patches rows_of_w = rows_as_patches(nullptr, s.inputs, s.outputs, s.outputs);
  return sizes.dy_bytes + sizes.dx_bytes + patches_times_matrix_workspace_bytes(rows_of_w, s.batch, 1);
}

int64_t linear_backward_weight_workspace_bytes(const LinearShape& s) {
  check(s);
  return transposed_patches_times_matrix_workspace_bytes(rows_as_patches(nullptr, s.batch, s.inputs, s.inputs),
                                                         s.outputs, 1);
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
