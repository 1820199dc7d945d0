#include "kernels/add.cuh"

#include "device/rows.cuh"

namespace pyalexnet {

namespace {

__global__ void add_slices_kernel(float* out, int64_t out_pitch, const float* a, int64_t a_pitch, const float* b,
                                  int64_t b_pitch, int64_t rows, int64_t columns, bool vectors) {
  for_each_vector_of_rows(rows, columns, vectors, [&]<int N>(int64_t row, int64_t i) {
    store(out + row * out_pitch + i, load<N>(a + row * a_pitch + i) + load<N>(b + row * b_pitch + i));
  });
}

}  // namespace

void add_slices(float* out, int64_t out_pitch, const float* a, int64_t a_pitch, const float* b, int64_t b_pitch,
                int64_t rows, int64_t columns, cudaStream_t stream) {
  check_rows(rows, columns, {{"out_pitch", out_pitch}, {"a_pitch", a_pitch}, {"b_pitch", b_pitch}});
  const bool vectors = vectors_aligned(out, out_pitch) && vectors_aligned(a, a_pitch) && vectors_aligned(b, b_pitch);
  launch<add_slices_kernel>(
      share_out_rows("add_slices_kernel", rows, ceil_div(columns, kVectorFloats), 12 * kVectorFloats, stream), out,
      out_pitch, a, a_pitch, b, b_pitch, rows, columns, vectors);
}

Cost add_slices_cost(int64_t rows, int64_t columns) {
  return {rows * columns, 3 * 4 * rows * columns};
}

}  // namespace pyalexnet
