#include "kernels/dropout.cuh"

#include <cmath>

#include "device/philox.cuh"
#include "device/rows.cuh"

namespace pyalexnet {

namespace {

struct Mask {
  Setting<Draw> draw;
  uint32_t threshold;  // the least draw that keeps
  float scale;
};

// What kDraws elements from number `element`, a multiple of four, on are multiplied by.
__device__ inline void draw_factors(float (&factors)[kDraws], const Mask& mask, const Draw& drawn, uint64_t element) {
  uint32_t draws[kDraws];
  draw(draws, drawn.seed, drawn.offset, element / 4);
  for (int i = 0; i < kDraws; ++i) factors[i] = draws[i] >= mask.threshold ? mask.scale : 0.0f;
}

// Selects, so that a dropped NaN or infinity is 0 too.
template <int N>
PYALEXNET_INLINE void apply_factors(float* y, const float* x, const float* factors) {
  const Vec<N> factor = load<N>(factors);
  store(y, select_positive(factor, load<N>(x) * factor, broadcast<N>(0.0f)));
}

// A thread takes runs of elements that are drawn at once. A row's first run begins with the elements before the row, as
// many as lie in the same group of four.
__global__ void dropout_kernel(float* y, int64_t y_pitch, const float* x, int64_t x_pitch, int64_t rows,
                               int64_t columns, int64_t row_elements, int64_t first_column, bool vectors, Mask mask) {
  const ThreadShare mine = block_share(rows);
  const Draw drawn = mask.draw.get();
  for (int64_t row = mine.begin; row < mine.end; row += mine.step) {
    const uint64_t first = static_cast<uint64_t>(row) * row_elements + first_column;
    const int before = static_cast<int>(first % 4);
    const ThreadShare runs = row_share(ceil_div(before + columns, kDraws));
    for (int64_t run = runs.begin; run < runs.end; run += runs.step) {
      const int64_t begin = run * kDraws - before, end = begin + kDraws;
      alignas(64) float factors[kDraws];
      draw_factors(factors, mask, drawn, first + begin);
      float* const to = y + row * y_pitch;
      const float* const from = x + row * x_pitch;
      if (vectors && begin >= 0 && end <= columns) {
        for (int i = 0; i < kDraws; i += kVectorFloats) {
          apply_factors<kVectorFloats>(to + begin + i, from + begin + i, factors + i);
        }
      } else {
        for (int i = 0; i < kDraws; ++i) {
          const int64_t c = begin + i;
          if (c >= 0 && c < columns) apply_factors<1>(to + c, from + c, factors + i);
        }
      }
    }
  }
}

void apply(const char* out_pitch_name, float* y, int64_t y_pitch, const char* in_pitch_name, const float* x,
           int64_t x_pitch, const Dropout& d, cudaStream_t stream) {
  check_rows(d.rows, d.columns, {{out_pitch_name, y_pitch}, {in_pitch_name, x_pitch}});
  require(d.first_column >= 0, "first_column is ", d.first_column, "; it must be at least 0");
  require(d.first_column + d.columns <= d.row_elements, "row_elements is ", d.row_elements,
          "; it must be at least the ", d.first_column + d.columns, " of first_column and the columns");
  const double threshold = std::ceil(d.p * 4294967296.0);
  require(d.p >= 0 && threshold <= 4294967295.0, "p is ", d.p, "; it must be from 0 to below 1 (by 2^-32 at least)");
  const Mask mask{
      .draw = d.draw, .threshold = static_cast<uint32_t>(threshold), .scale = static_cast<float>(1.0 / (1.0 - d.p))};
  // Runs are counted from multiples of four of the undivided array, so a slice's vectors are aligned where those are.
  const bool vectors = vectors_aligned(y, y_pitch, d.row_elements, d.first_column) && vectors_aligned(x, x_pitch);
  launch<dropout_kernel>(share_out_rows("dropout_kernel", d.rows, ceil_div(3 + d.columns, kDraws), 8 * kDraws, stream),
                         y, y_pitch, x, x_pitch, d.rows, d.columns, d.row_elements, d.first_column, vectors, mask);
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
