// How a block brings slices of its matrices into __shared__ memory, so that each element is read from device memory once
// a block. fetch(terms) looks at the next slice, commit() has it written: in between, the current one is multiplied.
// Left slices are told how many rows the block has: single threads copy no more, many take the whole tile's.
#pragma once

#include "device/copied_slices.cuh"
#include "device/staged_slices.cuh"

namespace pyalexnet {

template <class Tile, SliceOrder order>
struct LeftSlice {
  alignas(64) float at[(order == SliceOrder::kRowMajor ? Tile::kRows : Tile::kDepth) * Tile::left_pitch(order)];
};

template <class Tile>
struct RightSlice {
  alignas(64) float at[Tile::kDepth * (Tile::kWide ? Tile::kPanel : Tile::kColumns)];
};

// Rows of the patch matrix, for out = P right.
template <class Tile, Access access>
using PatchRows = std::conditional_t<Tile::kStaged, StagedPatchRows<Tile, access>, CopiedPatchRows<Tile>>;

// Columns of the patch matrix as rows, for out = P^T right. One more behind the last holds ones.
template <class Tile, Access access>
using PatchColumns = std::conditional_t<Tile::kStaged, StagedPatchColumns<Tile, access>, CopiedPatchColumns<Tile>>;

template <class Tile, Access access>
using RightRows = std::conditional_t<Tile::kStaged, StagedRightRows<Tile, access>,
                                     std::conditional_t<Tile::kWide, RightRowsInPlace<Tile>, CopiedRightRows<Tile>>>;

}  // namespace pyalexnet
