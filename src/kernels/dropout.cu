#include "kernels/dropout.cuh"

#include <cmath>

#include "device/philox.cuh"
#include "device/rows.cuh"

namespace pyalexnet {

namespace {

struct Mask {
  uint64_t seed, offset;
  uint32_t threshold;  // the least draw that keeps
  float scale;
};

// What N elements from number `element` on are multiplied by.
template <int N>
__device__ inline Vec<N> factors(const Mask& mask, uint64_t element) {
  uint32_t draws[N];
  if (N % 4 == 0 && element % 4 == 0) {
    for (int group = 0; group < N / 4; ++group) {
      const PhiloxCounter four = philox_group(mask.seed, mask.offset, element / 4 + group);
      for (int lane = 0; lane < 4; ++lane) draws[4 * group + lane] = four.words[lane];
    }
  } else {
    for (int i = 0; i < N; ++i) {
      draws[i] = philox_group(mask.seed, mask.offset, (element + i) / 4).words[(element + i) % 4];
    }
  }
  alignas(16) float result[N];
  for (int i = 0; i < N; ++i) result[i] = draws[i] >= mask.threshold ? mask.scale : 0.0f;
  return load<N>(result);
}

// Selects, so that a dropped NaN or infinity is 0 too.
__global__ void dropout_kernel(float* y, int64_t y_pitch, const float* x, int64_t x_pitch, int64_t rows,
                               int64_t columns, int64_t row_elements, int64_t first_column, bool vectors, Mask mask) {
  for_each_vector_of_rows(rows, columns, vectors, [&]<int N>(int64_t row, int64_t i) {
    const Vec<N> factor = factors<N>(mask, static_cast<uint64_t>(row) * row_elements + first_column + i);
    const Vec<N> scaled = load<N>(x + row * x_pitch + i) * factor;
    store(y + row * y_pitch + i, select_positive(factor, scaled, broadcast<N>(0.0f)));
  });
}

void apply(const char* out_pitch_name, float* y, int64_t y_pitch, const char* in_pitch_name, const float* x,
           int64_t x_pitch, const Dropout& d, cudaStream_t stream) {
  check_rows(d.rows, d.columns, {{out_pitch_name, y_pitch}, {in_pitch_name, x_pitch}});
  require(d.first_column >= 0, "first_column is ", d.first_column, "; it must be at least 0");
  require(d.first_column + d.columns <= d.row_elements, "row_elements is ", d.row_elements,
          "; it must be at least the ", d.first_column + d.columns, " of first_column and the columns");
  const double threshold = std::ceil(d.p * 4294967296.0);
  require(d.p >= 0 && threshold <= 4294967295.0, "p is ", d.p, "; it must be from 0 to below 1 (by 2^-32 at least)");
  const Mask mask{.seed = d.seed,
                  .offset = d.offset,
                  .threshold = static_cast<uint32_t>(threshold),
                  .scale = static_cast<float>(1.0 / (1.0 - d.p))};
  launch<dropout_kernel>(
      share_out_rows("dropout_kernel", d.rows, ceil_div(d.columns, kVectorFloats), 8 * kVectorFloats, stream), y,
      y_pitch, x, x_pitch, d.rows, d.columns, d.row_elements, d.first_column,
      vectors_aligned(y, y_pitch) && vectors_aligned(x, x_pitch), mask);
}

}  // namespace

void dropout_forward(float* y, int64_t y_pitch, const float* x, int64_t x_pitch, const Dropout& dropout,
                     cudaStream_t stream) {
  apply("y_pitch", y, y_pitch, "x_pitch", x, x_pitch, dropout, stream);
}

void dropout_backward(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const Dropout& dropout,
                      cudaStream_t stream) {
  apply("dx_pitch", dx, dx_pitch, "dy_pitch", dy, dy_pitch, dropout, stream);
}

Cost dropout_cost(int64_t rows, int64_t columns) {
  return {rows * columns, 2 * 4 * rows * columns};
}

}  // namespace pyalexnet
