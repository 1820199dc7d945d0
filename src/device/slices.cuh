// How a block brings slices of its matrices into __shared__ memory, so that each element is read from device memory once
// a block. fetch(terms) looks at the next slice, commit() has it written: in between, the current one is multiplied. Or
// copy(terms, slice) asks for it several slices ahead. A tile of full slices says how many terms are left, any other one
// how many the slice has.
// Left slices are told how many rows the block has: single threads copy no more, many take the whole tile's.
#pragma once

#include "device/carried_slices.cuh"
#include "device/copied_slices.cuh"

namespace pyalexnet {

template <class Tile, SliceOrder order>
struct LeftSlice {
  alignas(64) float at[(order == SliceOrder::kRowMajor ? Tile::kRows : Tile::kDepth) * Tile::left_pitch(order)];
};

template <class Tile>
struct RightSlice {
  alignas(64) float at[Tile::kDepth * Tile::right_pitch()];
};

// What brings slices for a tile: the copy of a single thread, or a walk for the access on the tile's way.
template <class Tile, Access access, class Copied, class QuadWalk, class Walk>
struct SliceBy {
  using ByWalk = std::conditional_t<access == Access::kQuads, QuadWalk, Walk>;
  using Type = std::conditional_t<Tile::kWay == SliceWay::kStaged, StagedSlice<ByWalk>, AsyncSlice<ByWalk>>;
};
template <class Tile, Access access, class Copied, class QuadWalk, class Walk>
  requires(Tile::kWay == SliceWay::kCopied)
struct SliceBy<Tile, access, Copied, QuadWalk, Walk> {
  using Type = Copied;
};

// Rows of the patch matrix, for out = P right.
template <class Tile, Access access>
using PatchRows =
    typename SliceBy<Tile, access, CopiedPatchRows<Tile>, PatchRowQuadWalk<Tile>, PatchRowWalk<Tile, access>>::Type;

// Columns of the patch matrix as rows, for out = P^T right. One more behind the last holds ones.
template <class Tile, Access access>
using PatchColumns = typename SliceBy<Tile, access, CopiedPatchColumns<Tile>, PatchColumnQuadWalk<Tile>,
                                      PatchColumnWalk<Tile, access>>::Type;

template <class Tile, Access access>
using RightRows =
    typename SliceBy<Tile, access, std::conditional_t<Tile::kWide, RightRowsInPlace<Tile>, CopiedRightRows<Tile>>,
                     RightQuadWalk<Tile>, RightRowWalk<Tile, access>>::Type;

}  // namespace pyalexnet
