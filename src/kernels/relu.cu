#include "kernels/relu.cuh"

#include <cmath>

#include "device/rows.cuh"

namespace pyalexnet {

namespace {

__global__ void relu_forward_kernel(float* y, const float* x, int64_t count, bool vectors) {
  for_each_vector(count, vectors, [&]<int N>(int64_t i) { store(y + i, relu(load<N>(x + i))); });
}

__global__ void relu_backward_kernel(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const float* y,
                                     int64_t y_pitch, int64_t rows, int64_t columns, float scale, bool vectors) {
  for_each_vector_of_rows(rows, columns, vectors, [&]<int N>(int64_t row, int64_t i) {
    const Vec<N> gradient = load<N>(dy + row * dy_pitch + i) * broadcast<N>(scale);
    store(dx + row * dx_pitch + i, select_positive(load<N>(y + row * y_pitch + i), gradient, broadcast<N>(0.0f)));
  });
}

}  // namespace

void relu_forward(float* y, const float* x, int64_t count, cudaStream_t stream) {
  require(count >= 1, "count is ", count, "; it must be at least 1");
  launch<relu_forward_kernel>(share_out_vectors("relu_forward_kernel", count, 8, stream), y, x, count,
                              vectors_aligned(y) && vectors_aligned(x));
}

void relu_backward(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const float* y, int64_t y_pitch,
                   int64_t rows, int64_t columns, float scale, cudaStream_t stream) {
  require(scale > 0 && std::isfinite(scale), "scale is ", scale, "; it must be above 0 and finite");
  check_rows(rows, columns, {{"dx_pitch", dx_pitch}, {"dy_pitch", dy_pitch}, {"y_pitch", y_pitch}});
  const bool vectors = vectors_aligned(dx, dx_pitch) && vectors_aligned(dy, dy_pitch) && vectors_aligned(y, y_pitch);
  launch<relu_backward_kernel>(
      share_out_rows("relu_backward_kernel", rows, ceil_div(columns, kVectorFloats), 12 * kVectorFloats, stream), dx,
      dx_pitch, dy, dy_pitch, y, y_pitch, rows, columns, scale, vectors);
}

Cost relu_forward_cost(int64_t count) {
  return {count, 2 * 4 * count};
}

Cost relu_backward_cost(int64_t count) {
  return {2 * count, 3 * 4 * count};
}

}  // namespace pyalexnet
