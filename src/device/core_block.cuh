// What a block computes on a CPU core: the loop of device/product_block.cuh by one thread, whose sums wait in memory.
#pragma once

#include "device/block_parts.cuh"

namespace pyalexnet {

// What is copied next after so many terms of a block are left: the block's next slice or, as this core most likely goes on
// with it, the next block's first one.
template <class Left, class Right>
class SlicesAhead {
 public:
  PYALEXNET_INLINE SlicesAhead(const Patches& patches, const RightMatrix& right, const Cut& cut, BlockPlace place,
                               int terms_left, int tiles)
      : SlicesAhead(patches, right, cut, after(cut, place, terms_left), tiles) {}

  PYALEXNET_INLINE void ask() { left_.ask(), right_.ask(); }

 private:
  // The part of a block's terms that is left, or the next block; no rows where there is none.
  static PYALEXNET_INLINE BlockPlace after(const Cut& cut, BlockPlace place, int terms_left) {
    if (terms_left > 0) {
      place.first_term += place.terms - terms_left;
      place.terms = terms_left;
    } else if (blockIdx.x + 1 < gridDim.x) {
      place.find(cut, blockIdx.x + 1);
    } else {
      place.rows = place.columns = place.terms = 0;
    }
    return place;
  }

  PYALEXNET_INLINE SlicesAhead(const Patches& patches, const RightMatrix& right, const Cut& cut, const BlockPlace& at,
                               int tiles)
      : left_(slice_of<Left>(patches, cut, at, at.first_row, at.rows), tiles),
        right_(slice_of<Right>(right, cut, at, at.first_column, at.columns), tiles) {}

  template <class Slices, class Matrix>
  static PYALEXNET_INLINE SliceInMemory slice_of(const Matrix& matrix, const Cut& cut, const BlockPlace& at,
                                                 int64_t first, int count) {
    if constexpr (requires { &Slices::slice_at; }) {
      const int terms = BlockPlace::at_most(cut.slice_terms, at.terms);
      return Slices::slice_at(matrix, cut.groups, at.group, first, count, at.first_term, terms);
    } else {
      return {};
    }
  }

  SliceAhead left_, right_;
};

// Its register tiles are multiplied one after the other, slice by slice, from the one buffer that each slice has. On the way
// it asks for the next slices, where these are to be copied.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_on_core(Left& left, Right& right, const Patches& patches,
                                       const RightMatrix& right_matrix, BlockMemory<Tile, Left>& memory,
                                       const Output& out, const Cut& cut, PaddedRuns out_runs) {
  const BlockPlace& place = memory.place;
  auto& [left_slice, right_slice] = memory.slices[0];
  int terms = 0, terms_left = place.terms;
  const auto bring = [&] {
    terms = BlockPlace::at_most(cut.slice_terms, terms_left);
    terms_left -= terms;
    left.fetch(terms);
    right.fetch(terms);
    left.commit(left_slice.at);
    right.commit(right_slice.at);
  };
  // Adds the slice to each register tile, then calls then(tile, m, n, row, column).
  const int tiles = ceil_div(place.rows, Tile::kThreadRows) * ceil_div(place.columns, Tile::kThreadColumns);
  const auto multiply = [&](bool first_slice, auto then) {
    SlicesAhead<Left, Right> ahead(patches, right_matrix, cut, place, terms_left, tiles);
    Tile::for_each_register_tile(place.rows, place.columns, [&](int m, int n, int row, int column) {
      ahead.ask();
      RegisterTile<Tile> tile = memory.sums.take(m, n, first_slice);
      left.multiply(tile, left_slice.at, row, right.panel(right_slice.at, column, terms));
      then(tile, m, n, row, column);
    });
  };

  bring();
  bool first_slice = true;
  while (terms_left > 0) {
    multiply(first_slice,
             [&](const RegisterTile<Tile>& tile, int m, int n, int, int) { memory.sums.tiles[m][n] = tile; });
    first_slice = false;
    bring();
  }
  multiply(first_slice, [&](RegisterTile<Tile>& tile, int, int, int row, int column) {
    write_tile(tile, row, column, out, cut, place, out_runs);
  });
}

}  // namespace pyalexnet
