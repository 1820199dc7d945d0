// Dropout (Hinton et al. 2012; Krizhevsky et al. 2012, section 4.2), scaled in training so that nothing is
// left to do at test time:
//
//   forward    y  = keep ? x / (1 - p) : 0
//   backward   dx = keep ? dy / (1 - p) : 0
//
// The mask is not stored: whether an element is kept follows from its number alone. Element number e reads
// lane e % 4 of philox(counter = (e / 4, offset), key = seed), and is kept when that 32-bit draw is at least
// p · 2^32. The element in a row and column has the number row · row_elements + first_column + column, so
// that two towers that each hold a slice of the columns draw what one undivided array would. One offset
// serves one layer in one step.
//
// Arrays are rows × columns, the rows `pitch` floats apart, on the stream's device; y may be x, and dx may be
// dy.
#pragma once

#include "device/cost.h"
#include "device/setting.cuh"

namespace pyalexnet {

// In device memory: two numbers of 64 bits, in this order.
struct Draw {
  uint64_t seed = 0, offset = 0;
};

struct Dropout {
  int64_t rows, columns;
  int64_t row_elements;      // columns of the undivided array
  int64_t first_column = 0;  // of this slice in the undivided array
  double p = 0.5;
  Setting<Draw> draw;
};

// Both throw std::invalid_argument for counts below 1, a slice beyond its row, a pitch below columns and p
// outside of [0, 1).
void dropout_forward(float* y, int64_t y_pitch, const float* x, int64_t x_pitch, const Dropout& dropout,
                     cudaStream_t stream);
void dropout_backward(float* dx, int64_t dx_pitch, const float* dy, int64_t dy_pitch, const Dropout& dropout,
                      cudaStream_t stream);

// What one call of either must do: one multiplication an element, one array read and one written.
Cost dropout_cost(int64_t rows, int64_t columns);

}  // namespace pyalexnet
