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

// What brings slices for a tile: by its way, and on a GPU by what the access allows.
template <class Tile, Access access, class Copied, class StagedQuads, class Staged, class QuadWalk, class Walk>
using SliceBy = std::conditional_t<
    Tile::kWay == SliceWay::kCopied, std::type_identity<Copied>,
    std::conditional_t<
        Tile::kWay == SliceWay::kStaged,
        std::conditional_t<access == Access::kQuads, std::type_identity<StagedQuads>, std::type_identity<Staged>>,
        std::type_identity<AsyncSlice<std::conditional_t<access == Access::kQuads, QuadWalk, Walk>>>>>::type;

// Rows of the patch matrix, for out = P right.
template <class Tile, Access access>
using PatchRows = SliceBy<Tile, access, CopiedPatchRows<Tile>, StagedPatchRowQuads<Tile>, StagedPatchRows<Tile, access>,
                          PatchRowQuadWalk<Tile>, PatchRowWalk<Tile, access>>;

// Columns of the patch matrix as rows, for out = P^T right. One more behind the last holds ones.
template <class Tile, Access access>
using PatchColumns =
    SliceBy<Tile, access, CopiedPatchColumns<Tile>, StagedPatchColumnQuads<Tile>, StagedPatchColumns<Tile, access>,
            PatchColumnQuadWalk<Tile>, PatchColumnWalk<Tile, access>>;

template <class Tile, Access access>
using RightRows =
    SliceBy<Tile, access, std::conditional_t<Tile::kWide, RightRowsInPlace<Tile>, CopiedRightRows<Tile>>,
            StagedRightQuads<Tile>, StagedRightRows<Tile, access>, RightQuadWalk<Tile>, RightRowWalk<Tile, access>>;

}  // namespace pyalexnet
