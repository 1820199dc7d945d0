#include "kernels/transpose.cuh"

#include "device/elementwise.cuh"

namespace pyalexnet {

namespace {

// A thread moves squares of this many floats, so that reads and writes both have runs of them.
constexpr int kSquare = kVectorFloats;

__global__ void transpose_kernel(float* to, const float* from, Transposition shape) {
  const int64_t squares_across = ceil_div(shape.columns, kSquare);
  const int64_t squares_down = ceil_div(shape.rows, kSquare);
  const ThreadShare share = thread_share(shape.outer * shape.inner * squares_down * squares_across);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const int64_t column = i % squares_across * kSquare;
    const int64_t row = i / squares_across % squares_down * kSquare;
    const int64_t matrix = i / squares_across / squares_down;
    const int64_t outer = matrix / shape.inner, inner = matrix % shape.inner;
    const float* source = from + outer * shape.from_outer + inner * shape.from_inner;
    float* target = to + outer * shape.to_outer + inner * shape.to_inner;
    const int64_t rows = row + kSquare < shape.rows ? row + kSquare : shape.rows;
    const int64_t columns = column + kSquare < shape.columns ? column + kSquare : shape.columns;
    for (int64_t c = column; c < columns; ++c) {
      for (int64_t r = row; r < rows; ++r) target[c * shape.to_pitch + r] = source[r * shape.from_pitch + c];
    }
  }
}

}  // namespace

void transpose(float* to, const float* from, const Transposition& shape, cudaStream_t stream) {
  const int64_t squares = shape.outer * shape.inner * ceil_div(shape.rows, kSquare) * ceil_div(shape.columns, kSquare);
  launch<transpose_kernel>(share_out("transpose_kernel", squares, kSquare * kSquare * 8, stream), to, from, shape);
}

}  // namespace pyalexnet
