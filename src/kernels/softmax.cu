#include "kernels/softmax.cuh"

#include <algorithm>
#include <cmath>

#include "device/powers.cuh"
#include "device/reduce.cuh"
#include "device/rows.cuh"
#include "device/vec_lanes.cuh"

namespace pyalexnet {

namespace {

// What a row's softmax is made of. Every thread of the row's block gets the same.
struct RowSums {
  float maximum, sum_of_exponentials;
};

// Leaves the exponentials of the differences from the maximum in y, which may be x. All threads of the row's block must
// call; before anything is written there is a barrier.
__device__ inline RowSums exponentials(float* y, const float* x, int64_t columns) {
  constexpr int N = kRowLanes;
  Vec<N> maxima = broadcast<N>(-INFINITY);
  for_each_run_of_row(
      columns, [&](int64_t c, int lanes) { maxima = greater(load_lanes<N>(x + c, lanes, true, -INFINITY), maxima); });
  const float maximum = block_reduce(maxima, [](float a, float b) { return fmaxf(a, b); });
  Vec<N> sums = broadcast<N>(0.0f);
  for_each_run_of_row(columns, [&](int64_t c, int lanes) {
    const Vec<N> power = exp(load_lanes<N>(x + c, lanes, true, -INFINITY) - broadcast<N>(maximum));
    store_lanes(y + c, power, lanes, true);
    sums = sums + power;
  });
  return {maximum, block_reduce(sums, [](float a, float b) { return a + b; })};
}

// What a thread left in y by exponentials(), scaled.
__device__ inline void scale_exponentials(float* y, int64_t columns, float scale) {
  constexpr int N = kRowLanes;
  for_each_run_of_row(columns, [&](int64_t c, int lanes) {
    store_lanes(y + c, load_lanes<N>(y + c, lanes, true) * broadcast<N>(scale), lanes, true);
  });
}

__global__ void softmax_forward_kernel(float* y, const float* x, int64_t rows, int64_t columns) {
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const RowSums sums = exponentials(y + row * columns, x + row * columns, columns);
    scale_exponentials(y + row * columns, columns, 1.0f / sums.sum_of_exponentials);
  }
}

__global__ void cross_entropy_kernel(float* losses, float* dlogits, const float* logits, const int32_t* labels,
                                     int64_t rows, int64_t columns) {
  const float share = 1.0f / static_cast<float>(rows);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t label = labels[row];
    const bool valid = 0 <= label && label < columns;
    // Read before dlogits is written, which may be logits.
    const float label_logit = valid ? logits[row * columns + label] : NAN;
    float* const dx = dlogits + row * columns;
    const RowSums sums = exponentials(dx, logits + row * columns, columns);
    if (threadIdx.x == 0) losses[row] = logf(sums.sum_of_exponentials) - (label_logit - sums.maximum);
    scale_exponentials(dx, columns, valid ? share / sums.sum_of_exponentials : NAN);
    if (valid && takes_of_row(label)) dx[label] -= share;
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
