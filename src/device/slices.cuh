// How a block brings slices of its matrices into __shared__ memory, so that each element is read from device memory once
// a block. fetch(terms) looks at the next slice, commit() has it written: in between, the current one is multiplied. Or
// copy(terms, slice) asks for it several slices ahead. A tile of full slices says how many terms are left, any other one
// how many the slice has.
// Left slices are told how many rows the block has: single threads copy no more, many take the whole tile's.
#pragma once

#include "device/async_slices.cuh"
#include "device/copied_slices.cuh"
#include "device/staged_quads.cuh"
#include "device/staged_slices.cuh"

namespace pyalexnet {

template <class Tile, SliceOrder order>
struct LeftSlice {
  alignas(64) float at[(order == SliceOrder::kRowMajor ? Tile::kRows : Tile::kDepth) * Tile::left_pitch(order)];
};

template <class Tile>
struct RightSlice {
  alignas(64) float at[Tile::kDepth * Tile::right_pitch()];
};

// The first of these types that fits: for a tile that is copied, for quads alone, for any other access; staged, or by
// asynchronous copies.
template <class Tile, Access access, class Copied, class Quads, class Any, class AsyncQuads, class AsyncAny>
using SliceBy = std::conditional_t<
    Tile::kWay == SliceWay::kCopied, Copied,
    std::conditional_t<Tile::kWay == SliceWay::kStaged, std::conditional_t<access == Access::kQuads, Quads, Any>,
                       std::conditional_t<access == Access::kQuads, AsyncQuads, AsyncAny>>>;

// Rows of the patch matrix, for out = P right.
template <class Tile, Access access>
using PatchRows = SliceBy<Tile, access, CopiedPatchRows<Tile>, StagedPatchRowQuads<Tile>, StagedPatchRows<Tile, access>,
                          AsyncPatchRowQuads<Tile>, AsyncPatchRows<Tile, access>>;

// Columns of the patch matrix as rows, for out = P^T right. One more behind the last holds ones.
template <class Tile, Access access>
using PatchColumns =
    SliceBy<Tile, access, CopiedPatchColumns<Tile>, StagedPatchColumnQuads<Tile>, StagedPatchColumns<Tile, access>,
            AsyncPatchColumnQuads<Tile>, AsyncPatchColumns<Tile, access>>;

template <class Tile, Access access>
using RightRows =
    SliceBy<Tile, access, std::conditional_t<Tile::kWide, RightRowsInPlace<Tile>, CopiedRightRows<Tile>>,
            StagedRightQuads<Tile>, StagedRightRows<Tile, access>, AsyncRightQuads<Tile>, AsyncRightRows<Tile, access>>;

}  // namespace pyalexnet
