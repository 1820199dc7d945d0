// Softmax and the multinomial logistic regression loss (Krizhevsky et al. 2012, section 3.5). For each row of
// logits x, with m = max_c x_c, so that no exponential overflows:
//
//   softmax        y_c     = exp(x_c - m) / sum_d exp(x_d - m)
//   cross entropy  loss    = log(sum_d exp(x_d - m)) - (x_label - m), the natural logarithm
//                  dlogits = (y_c - [c = label]) / rows, the gradient of the mean of the rows' losses
//
// A row with a NaN, or with an infinity as its maximum, gives NaN throughout. So does cross entropy for a
// label outside of [0, columns), which is never used as an index.
//
// Arrays are rows × columns, contiguous, on the stream's device; y may be x, and dlogits may be logits.
#pragma once

#include "device/cost.h"
#include "device/platform.cuh"

namespace pyalexnet {

// Both throw std::invalid_argument unless there is at least one row and one column.
void softmax_forward(float* y, const float* x, int64_t rows, int64_t columns, cudaStream_t stream);
void cross_entropy(float* losses, float* dlogits, const float* logits, const int32_t* labels, int64_t rows,
                   int64_t columns, cudaStream_t stream);

// What one call must do (read the logits once, write one array of the same size). An exponential counts as
// one.
Cost softmax_forward_cost(int64_t rows, int64_t columns);
Cost cross_entropy_cost(int64_t rows, int64_t columns);

}  // namespace pyalexnet
