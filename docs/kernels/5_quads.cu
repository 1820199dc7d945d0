// Step 5: all accesses but the transposing ones are of 16 bytes, and no two lanes want different words of a bank.
// Channels and filters must be multiples of four.
#include "layer.cuh"

constexpr int kRows = 128, kColumns = 128, kThreads = 256;
constexpr int kDepth = 8;          // terms of a slice
constexpr int kPitch = kRows + 4;  // moves four terms by 16 banks

extern "C" __global__ void __launch_bounds__(kThreads) convolve(float* y, const float* x, const float* w, Layer layer) {
  alignas(16) __shared__ float left[kDepth][kPitch], right[kDepth][kColumns];
  const int column_blocks = ceil_div(layer.filters, kColumns);
  const int first_row = blockIdx.x / column_blocks * kRows, first_column = blockIdx.x % column_blocks * kColumns;

  // A warp has 32x64 outputs, a lane two quads of rows and two of columns. Eight lanes that follow each other stand in
  // two quads of rows and four of columns.
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int down = warp % 4 * 32 + (lane % 2 + lane / 16 * 2) * 4, across = warp / 4 * 64 + lane / 2 % 8 * 4;
  constexpr int kNextDown = 16, kNextAcross = 32;  // from a lane's first quad to its second

  // Of each slice a thread brings four terms of a row of P, and four columns of a row of w.
  const int left_row = threadIdx.x / 2, left_term = threadIdx.x % 2 * 4;
  const int right_term = threadIdx.x / 32, right_column = threadIdx.x % 32 * 4;
  const Pixel pixel(layer, first_row + left_row);
  Term term(layer, left_term);

  float sums[8][8] = {};
  for (int first = 0; first < layer.terms(); first += kDepth) {
    float of_left[4] = {}, of_right[4] = {};
    if (const float* const from = pixel.find(x, layer, term)) load4(of_left, from);
    const int w_row = first + right_term, w_column = first_column + right_column;
    if (w_row < layer.terms() && w_column < layer.filters) load4(of_right, w + w_row * layer.filters + w_column);
    term.advance(layer, kDepth);
#pragma unroll
    for (int e = 0; e < 4; ++e) left[left_term + e][left_row] = of_left[e];
    store4(&right[right_term][right_column], of_right);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float a[8], b[8];
      load4(a, &left[k][down]), load4(a + 4, &left[k][down + kNextDown]);
      load4(b, &right[k][across]), load4(b + 4, &right[k][across + kNextAcross]);
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
    for (int j = 0; j < 8; j += 4) {
      const int row = first_row + down + i / 4 * kNextDown + i % 4;
      const int column = first_column + across + j / 4 * kNextAcross;
      if (row < layer.pixels() && column < layer.filters) store4(y + row * layer.filters + column, sums[i] + j);
    }
  }
}
