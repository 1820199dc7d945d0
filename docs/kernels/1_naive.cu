// Step 1: a thread computes an output. The lanes of a warp are neighbouring pixels.
#include "layer.cuh"

constexpr int kRows = 32, kColumns = 8, kThreads = 256;  // a block: 32 pixels, 8 filters

extern "C" __global__ void __launch_bounds__(kThreads) convolve(float* y, const float* x, const float* w, Layer layer) {
  const int column_blocks = ceil_div(layer.filters, kColumns);
  const int row = blockIdx.x / column_blocks * kRows + threadIdx.x % kRows;
  const int column = blockIdx.x % column_blocks * kColumns + threadIdx.x / kRows;
  if (row >= layer.pixels() || column >= layer.filters) return;

  const Pixel pixel(layer, row);
  float sum = 0;
  for (Term term(layer, 0); term.u < 3; term.advance(layer, layer.channels)) {
    const float* const from = pixel.find(x, layer, term);
    if (!from) continue;
    const float* const weights = w + (term.u * 3 + term.v) * layer.channels * layer.filters + column;
    for (int c = 0; c < layer.channels; ++c) sum += from[c] * weights[c * layer.filters];
  }
  y[row * layer.filters + column] = sum;
}
