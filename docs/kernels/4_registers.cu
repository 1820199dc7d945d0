// Step 4: a thread computes 8x8 outputs, for which it reads 16 elements a term.
#include "layer.cuh"

constexpr int kRows = 128, kColumns = 128, kThreads = 256;
constexpr int kDepth = 8;  // terms of a slice

extern "C" __global__ void __launch_bounds__(kThreads) convolve(float* y, const float* x, const float* w, Layer layer) {
  __shared__ float left[kRows][kDepth], right[kDepth][kColumns];
  const int column_blocks = ceil_div(layer.filters, kColumns);
  const int first_row = blockIdx.x / column_blocks * kRows, first_column = blockIdx.x % column_blocks * kColumns;
  const int down = threadIdx.x / 16 * 8, across = threadIdx.x % 16 * 8;  // the thread's outputs in the block's

  // Of each slice a thread brings four elements of either matrix.
  const int left_row = threadIdx.x / kDepth, left_term = threadIdx.x % kDepth;
  const int right_term = threadIdx.x / kColumns, right_column = threadIdx.x % kColumns;
  constexpr int kLeftRows = kThreads / kDepth, kRightTerms = kThreads / kColumns;
  const Pixel pixels[] = {{layer, first_row + left_row},
                          {layer, first_row + left_row + kLeftRows},
                          {layer, first_row + left_row + 2 * kLeftRows},
                          {layer, first_row + left_row + 3 * kLeftRows}};
  Term term(layer, left_term);

  float sums[8][8] = {};
  for (int first = 0; first < layer.terms(); first += kDepth) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float* const from = pixels[n].find(x, layer, term);
      left[left_row + n * kLeftRows][left_term] = from ? *from : 0;
      const int w_row = first + right_term + n * kRightTerms, w_column = first_column + right_column;
      const bool inside = w_row < layer.terms() && w_column < layer.filters;
      right[right_term + n * kRightTerms][right_column] = inside ? w[w_row * layer.filters + w_column] : 0;
    }
    term.advance(layer, kDepth);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float a[8], b[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) a[i] = left[down + i][k], b[i] = right[k][across + i];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) sums[i][j] += a[i] * b[j];
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < 8; ++i) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int row = first_row + down + i, column = first_column + across + j;
      if (row < layer.pixels() && column < layer.filters) y[row * layer.filters + column] = sums[i][j];
    }
  }
}
