#include "kernels/tanh.cuh"

#include "device/rows.cuh"

namespace pyalexnet {

namespace {

// From here on tanh is 1 to the last bit of a float.
constexpr float kLimit = 9.02f;

// The arguments between -kLimit and kLimit; NaN stays NaN.
template <int N>
__device__ inline Vec<N> clamp(Vec<N> x) {
  const Vec<N> limit = broadcast<N>(kLimit);
  x = select_positive(x - limit, limit, x);
  const Vec<N> negative = broadcast<N>(-kLimit);
  return select_positive(negative - x, negative, x);
}

// The continued fraction of tanh(u), seven terms written as one quotient; right to 1e-8 where |u| < 2.3.
template <int N>
__device__ inline Vec<N> tanh_near_zero(Vec<N> u) {
  const Vec<N> s = u * u;
  const Vec<N> one = broadcast<N>(1.0f);
  Vec<N> above = fma(s, one, broadcast<N>(378.0f));
  above = fma(above, s, broadcast<N>(17325.0f));
  above = fma(above, s, broadcast<N>(135135.0f));
  Vec<N> below = fma(broadcast<N>(28.0f), s, broadcast<N>(3150.0f));
  below = fma(below, s, broadcast<N>(62370.0f));
  below = fma(below, s, broadcast<N>(135135.0f));
  return u * above / below;
}

// tanh(2u) from t = tanh(u).
template <int N>
__device__ inline Vec<N> doubled(Vec<N> t) {
  return (t + t) / fma(t, t, broadcast<N>(1.0f));
}

template <int N>
__device__ inline Vec<N> tanh_of(Vec<N> x) {
  return doubled(doubled(tanh_near_zero(clamp(x) * broadcast<N>(0.25f))));
}

__global__ void tanh_forward_kernel(float* y, int64_t y_pitch, const float* x, int64_t x_pitch, int64_t rows,
                                    int64_t columns, bool vectors) {
  for_each_vector_of_rows(rows, columns, vectors, [&]<int N>(int64_t row, int64_t i) {
    store(y + row * y_pitch + i, tanh_of(load<N>(x + row * x_pitch + i)));
  });
}

__global__ void tanh_backward_kernel(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const float* y,
                                     int64_t y_pitch, int64_t rows, int64_t columns, bool vectors) {
  for_each_vector_of_rows(rows, columns, vectors, [&]<int N>(int64_t row, int64_t i) {
    const Vec<N> value = load<N>(y + row * y_pitch + i);
    const Vec<N> slope = broadcast<N>(1.0f) - value * value;
    store(dx + row * dx_pitch + i, load<N>(dy + row * dy_pitch + i) * slope);
  });
}

}  // namespace

void tanh_forward(float* y, int64_t y_pitch, const float* x, int64_t x_pitch, int64_t rows, int64_t columns,
                  cudaStream_t stream) {
  check_rows(rows, columns, {{"y_pitch", y_pitch}, {"x_pitch", x_pitch}});
  launch<tanh_forward_kernel>(
      share_out_rows("tanh_forward_kernel", rows, ceil_div(columns, kVectorFloats), 8 * kVectorFloats, stream), y,
      y_pitch, x, x_pitch, rows, columns, vectors_aligned(y, y_pitch) && vectors_aligned(x, x_pitch));
}

void tanh_backward(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const float* y, int64_t y_pitch,
                   int64_t rows, int64_t columns, cudaStream_t stream) {
  check_rows(rows, columns, {{"dx_pitch", dx_pitch}, {"dy_pitch", dy_pitch}, {"y_pitch", y_pitch}});
  const bool vectors = vectors_aligned(dx, dx_pitch) && vectors_aligned(dy, dy_pitch) && vectors_aligned(y, y_pitch);
  launch<tanh_backward_kernel>(
      share_out_rows("tanh_backward_kernel", rows, ceil_div(columns, kVectorFloats), 12 * kVectorFloats, stream), dx,
      dx_pitch, dy, dy_pitch, y, y_pitch, rows, columns, vectors);
}

Cost tanh_forward_cost(int64_t count) {
  constexpr int64_t kClampScale = 5, kFraction = 1 + 6 * 2 + 2, kDoubled = 2 * 4;
  return {(kClampScale + kFraction + kDoubled) * count, 2 * 4 * count};
}

Cost tanh_backward_cost(int64_t count) {
  return {3 * count, 3 * 4 * count};
}

}  // namespace pyalexnet
