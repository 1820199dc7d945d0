// What a block computes of out = left right, for left = P or P^T, is this loop over tiles of the plan's block size:
//
//   for each part of the sums, group, tile of rows, tile of columns:            a block
//     for each slice of at most kDepth terms of the part:                       fetch, commit
//       for each row and column of the tile, term of the slice:                 multiply_add
//         sums[row][column] += left[row][term] * right[term][column]
//     out[rows][columns] = relu(sums + bias), or the part's sums                write_tile
//   out = relu(the sum over parts + bias), where there are several              add_parts_kernel
#pragma once

#include "device/core_block.cuh"
#include "device/tensor_block.cuh"

namespace pyalexnet {

// Whether the chip that is compiled for has no tensor cores for the tile; require_precision refuses it
// (device/tensor_cores.h).
template <class Tile>
inline constexpr bool kLacksTensorCores =
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    Tile::kPrecision != Precision::kFp32;
#else
    false;
#endif

// The sums of a block whose threads bring slices through registers: while one is multiplied the next one is on its way.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_staged(Left& left, Right& right, BlockMemory<Tile, Left>& memory, const Output& out,
                                      const Cut& cut, PaddedRuns out_runs) {
  constexpr SliceOrder kOrder = Left::kOrder;
  const BlockPlace& place = memory.place;
  int buffer = 0, terms_left = place.terms;
  const auto fetch = [&] {
    const int terms = terms_left;
    terms_left -= Tile::kDepth;
    left.fetch(terms);
    right.fetch(terms);
  };
  const auto commit = [&](int to) {
    left.commit(memory.slices[to].left.at);
    right.commit(memory.slices[to].right.at);
    __syncthreads();
  };
  // Where a register tile's first row and first column are in the current slices.
  const auto left_at = [&](int row) {
    constexpr int kRowStep = kOrder == SliceOrder::kRowMajor ? Tile::left_pitch(kOrder) : 1;
    return memory.slices[buffer].left.at + row * kRowStep;
  };
  // Of the first panel alone: nvcc makes the better code where all are counted.
  const auto right_at = [&](int column) {
    return memory.slices[buffer].right.at + column / Tile::kPanel * Tile::kPanel * Tile::kDepth + column % Tile::kPanel;
  };

  fetch();
  commit(0);
  Tile::for_each_register_tile(place.rows, place.columns, [&](int, int, int row, int column) {
    RegisterTile<Tile> tile;
    tile.clear();
    TermByTerm<Tile, kOrder> steps;
    steps.begin(left_at(row), right_at(column));
    while (terms_left > 0) {
      fetch();
      steps.multiply_all_but_last(tile, left_at(row), right_at(column));
      buffer = 1 - buffer;
      commit(buffer);
      steps.begin(left_at(row), right_at(column));
      steps.multiply_last(tile);
    }
    steps.multiply_all_but_last(tile, left_at(row), right_at(column));
    steps.multiply_last(tile);
    write_tile(tile, row, column, out, cut, place, out_runs);
  });
}

// The block's part of the product.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_block(const Patches& patches, const RightMatrix& right_matrix, const Output& out,
                                     const Cut& cut, PaddedRuns out_runs) {
  if constexpr (kLacksTensorCores<Tile>) return __trap();
  auto& memory = shared_memory<BlockMemory<Tile, Left>>();
  BlockPlace& place = memory.place;
  if (threadIdx.x == 0) place.find(cut, blockIdx.x);
  __syncthreads();
  Left left(patches, place.group, place.first_row, place.rows, place.first_term, memory.left_shared);
  Right right(right_matrix, place.group * right_matrix.group_stride + place.first_column, place.columns,
              place.first_term);
  __syncthreads();
  if constexpr (Tile::kWay == SliceWay::kCopied) {
    multiply_on_core<Tile>(left, right, patches, right_matrix, memory, out, cut, out_runs);
  } else if constexpr (Tile::kWay == SliceWay::kAsync) {
    multiply_async<Tile>(left, right, memory, out, cut, out_runs);
  } else {
    multiply_staged<Tile>(left, right, memory, out, cut, out_runs);
  }
}

}  // namespace pyalexnet
