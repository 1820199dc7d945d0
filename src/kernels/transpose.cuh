// Transposing many small matrices, or one large: to[outer, inner, column, row] = from[outer, inner, row, column].
#pragma once

#include "device/platform.cuh"

namespace pyalexnet {

// `outer` x `inner` matrices of rows x columns. Strides and pitches are in floats, those of `to` between the
// transposed matrices; they may be negative.
struct Transposition {
  int64_t outer, inner, rows, columns;
  int64_t from_outer, from_inner, from_pitch;
  int64_t to_outer, to_inner, to_pitch;
};

// A single matrix of rows x columns, its rows from_pitch apart, into a dense one.
inline Transposition one_matrix(int64_t rows, int64_t columns, int64_t from_pitch) {
  return {1, 1, rows, columns, 0, 0, from_pitch, 0, 0, rows};
}

void transpose(float* to, const float* from, const Transposition& shape, cudaStream_t stream);

}  // namespace pyalexnet
