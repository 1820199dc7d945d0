// Step 3: a block brings slices of P and w into shared memory, where 32 threads read each element.
#include "layer.cuh"

constexpr int kRows = 32, kColumns = 32, kThreads = 1024;
constexpr int kDepth = 32;  // terms of a slice

extern "C" __global__ void __launch_bounds__(kThreads) convolve(float* y, const float* x, const float* w, Layer layer) {
  __shared__ float left[kRows][kDepth], right[kDepth][kColumns];
  const int down = threadIdx.x / 32, across = threadIdx.x % 32;
  const int column_blocks = ceil_div(layer.filters, kColumns);
  const int row = blockIdx.x / column_blocks * kRows + down;
  const int column = blockIdx.x % column_blocks * kColumns + across;

  const Pixel pixel(layer, row);
  Term term(layer, across);
  float sum = 0;
  for (int first = 0; first < layer.terms(); first += kDepth) {
    const float* const from = pixel.find(x, layer, term);
    left[down][across] = from ? *from : 0;
    const bool inside = first + down < layer.terms() && column < layer.filters;
    right[down][across] = inside ? w[(first + down) * layer.filters + column] : 0;
    term.advance(layer, kDepth);
    __syncthreads();
    for (int k = 0; k < kDepth; ++k) sum += left[down][k] * right[k][across];
    __syncthreads();
  }
  if (row < layer.pixels() && column < layer.filters) y[row * layer.filters + column] = sum;
}
