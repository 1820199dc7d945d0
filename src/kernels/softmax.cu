#include "kernels/softmax.cuh"

#include <algorithm>
#include <cmath>

#include "device/reduce.cuh"
#include "device/rows.cuh"

namespace pyalexnet {

namespace {

// What a row's softmax is made of. Every thread of the row's block must ask and gets the same.
struct RowSums {
  float maximum, sum_of_exponentials;
};

__device__ RowSums row_sums(const float* x, int64_t columns) {
  float maximum = -INFINITY;
  for (int64_t c = threadIdx.x; c < columns; c += kRowThreads) maximum = fmaxf(maximum, x[c]);
  maximum = block_reduce(maximum, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0.0f;
  for (int64_t c = threadIdx.x; c < columns; c += kRowThreads) sum += expf(x[c] - maximum);
  return {maximum, block_reduce(sum, [](float a, float b) { return a + b; })};
}

__global__ void softmax_forward_kernel(float* y, const float* x, int64_t rows, int64_t columns) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const RowSums sums = row_sums(x + row * columns, columns);
    const float scale = 1.0f / sums.sum_of_exponentials;
    for (int64_t c = threadIdx.x; c < columns; c += kRowThreads) {
      y[row * columns + c] = expf(x[row * columns + c] - sums.maximum) * scale;
    }
  }
}

__global__ void cross_entropy_kernel(float* losses, float* dlogits, const float* logits, const int32_t* labels,
                                     int64_t rows, int64_t columns) {
  const float share = 1.0f / static_cast<float>(rows);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const float* const x = logits + row * columns;
    const RowSums sums = row_sums(x, columns);
    const int64_t label = labels[row];
    const bool valid = 0 <= label && label < columns;
    const float label_logit = valid ? x[label] : NAN;
    __syncthreads();  // dlogits may be logits: the label's logit has been read
    if (threadIdx.x == 0) losses[row] = logf(sums.sum_of_exponentials) - (label_logit - sums.maximum);
    const float scale = valid ? share / sums.sum_of_exponentials : NAN;
    for (int64_t c = threadIdx.x; c < columns; c += kRowThreads) {
      dlogits[row * columns + c] = expf(x[c] - sums.maximum) * scale - (c == label ? share : 0.0f);
    }
  }
}

Launch one_block_a_row(const char* kernel_name, int64_t rows, int64_t columns, cudaStream_t stream) {
  check_rows(rows, columns);
  constexpr int64_t kMaxBlocks = 65536;
  return {kernel_name, dim3(static_cast<unsigned>(std::min(rows, kMaxBlocks))), dim3(kRowThreads), stream};
}

}  // namespace

void softmax_forward(float* y, const float* x, int64_t rows, int64_t columns, cudaStream_t stream) {
  launch<softmax_forward_kernel>(one_block_a_row("softmax_forward_kernel", rows, columns, stream), y, x, rows, columns);
}

void cross_entropy(float* losses, float* dlogits, const float* logits, const int32_t* labels, int64_t rows,
                   int64_t columns, cudaStream_t stream) {
  launch<cross_entropy_kernel>(one_block_a_row("cross_entropy_kernel", rows, columns, stream), losses, dlogits, logits,
                               labels, rows, columns);
}

Cost softmax_forward_cost(int64_t rows, int64_t columns) {
  constexpr int64_t kMaximumDifferenceExponentialSumScale = 5;
  return {kMaximumDifferenceExponentialSumScale * rows * columns, 2 * 4 * rows * columns};
}

Cost cross_entropy_cost(int64_t rows, int64_t columns) {
  const Cost softmax = softmax_forward_cost(rows, columns);
  constexpr int64_t kLabelAndLossBytes = 8;
  return {softmax.flops, softmax.bytes + kLabelAndLossBytes * rows};
}

}  // namespace pyalexnet
