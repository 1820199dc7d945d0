#include "kernels/add.cuh"

#include "device/rows.cuh"

namespace pyalexnet {

namespace {

__global__ void add_slices_kernel(float* out, int64_t out_pitch, const float* a, int64_t a_pitch, const float* b,
                                  int64_t b_pitch, int64_t rows, int64_t columns, bool vectors) {
  const ThreadShare share = block_share(rows);
  for (int64_t row = share.begin; row < share.end; row += share.step) {
    for_each_row_vector(columns, vectors, [&]<int N>(int64_t i) {
      store(out + row * out_pitch + i, load<N>(a + row * a_pitch + i) + load<N>(b + row * b_pitch + i));
    });
  }
}

}  // namespace

void add_slices(float* out, int64_t out_pitch, const float* a, int64_t a_pitch, const float* b, int64_t b_pitch,
                int64_t rows, int64_t columns, cudaStream_t stream) {
  require(rows >= 1 && columns >= 1, "add_slices needs at least one row and one column; got ", rows, " × ", columns);
  require(out_pitch >= columns && a_pitch >= columns && b_pitch >= columns, "the pitches of out, a and b, ", out_pitch,
          ", ", a_pitch, " and ", b_pitch, ", must be at least the ", columns, " columns");
  const bool vectors = vectors_aligned(out, out_pitch) && vectors_aligned(a, a_pitch) && vectors_aligned(b, b_pitch);
  launch<add_slices_kernel>(
      share_out_rows("add_slices_kernel", rows, ceil_div(columns, kVectorFloats), 12 * kVectorFloats, stream), out,
      out_pitch, a, a_pitch, b, b_pitch, rows, columns, vectors);
}

Cost add_slices_cost(int64_t rows, int64_t columns) {
  return {rows * columns, 3 * 4 * rows * columns};
}

}  // namespace pyalexnet
