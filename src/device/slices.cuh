// How a block brings slices of its matrices into __shared__ memory, so that each element is read from device memory once
// a block. fetch(terms) looks at the next slice, commit() has it written: in between, the current one is multiplied. Or
// copy(terms, slice) asks for it several slices ahead. A tile of full slices says how many terms are left, any other one
// how many the slice has.
// Left slices are told how many rows the block has: single threads copy no more, many take the whole tile's.
#pragma once

#include "device/async_slices.cuh"
#include "device/copied_slices.cuh"
#include "device/left_in_place.cuh"
#include "device/staged_quads.cuh"
#include "device/staged_slices.cuh"
#include "device/staged_words.cuh"

namespace pyalexnet {

template <class Tile, SliceOrder order>
struct LeftSlice {
  alignas(64) float at[(order == SliceOrder::kRowMajor ? Tile::kRows : Tile::kDepth) * Tile::left_pitch(order)];
};

template <class Tile>
struct RightSlice {
  alignas(64) float at[Tile::kDepth * Tile::right_pitch()];
};

// The slices of a way: of the patch matrix's rows, for out = P right; of its columns as rows, with one more behind the last
// that holds ones, for out = P^T right; and of the right matrix.
template <SliceWay way>
struct SlicesBy;

template <>
struct SlicesBy<SliceWay::kCopied> {
  template <class Tile, Access access>
  using PatchRows = std::conditional_t<access == Access::kInside, PatchRowsInPlace<Tile>, CopiedPatchRows<Tile>>;
  template <class Tile, Access access>
  using PatchColumns =
      std::conditional_t<access == Access::kInside, PatchColumnsInPlace<Tile>, CopiedPatchColumns<Tile>>;
  template <class Tile, Access access>
  using RightRows = std::conditional_t<Tile::kWide, RightRowsInPlace<Tile>, CopiedRightRows<Tile>>;
};

template <>
struct SlicesBy<SliceWay::kStaged> {
  template <class Tile, Access access>
  using PatchRows =
      std::conditional_t<access == Access::kQuads, StagedPatchRowQuads<Tile>, StagedPatchRows<Tile, access>>;
  template <class Tile, Access access>
  using PatchColumns =
      std::conditional_t<access == Access::kQuads, StagedPatchColumnQuads<Tile>, StagedPatchColumns<Tile, access>>;
  template <class Tile, Access access>
  using RightRows = std::conditional_t<access == Access::kQuads, StagedRightQuads<Tile>, StagedRightRows<Tile, access>>;
};

template <>
struct SlicesBy<SliceWay::kWords> {
  template <class Tile, Access access>
  using PatchRows = StagedPatchRowWords<Tile, access>;
  template <class Tile, Access access>
  using PatchColumns = StagedPatchColumnWords<Tile, access>;
  template <class Tile, Access access>
  using RightRows = StagedRightWords<Tile, access>;
};

template <>
struct SlicesBy<SliceWay::kAsync> {
  template <class Tile, Access access>
  using PatchRows =
      std::conditional_t<access == Access::kQuads, AsyncPatchRowQuads<Tile>, AsyncPatchRows<Tile, access>>;
  template <class Tile, Access access>
  using PatchColumns =
      std::conditional_t<access == Access::kQuads, AsyncPatchColumnQuads<Tile>, AsyncPatchColumns<Tile, access>>;
  template <class Tile, Access access>
  using RightRows = std::conditional_t<access == Access::kQuads, AsyncRightQuads<Tile>, AsyncRightRows<Tile, access>>;
};

template <class Tile, Access access>
using PatchRows = typename SlicesBy<Tile::kWay>::template PatchRows<Tile, access>;
template <class Tile, Access access>
using PatchColumns = typename SlicesBy<Tile::kWay>::template PatchColumns<Tile, access>;
template <class Tile, Access access>
using RightRows = typename SlicesBy<Tile::kWay>::template RightRows<Tile, access>;

}  // namespace pyalexnet
