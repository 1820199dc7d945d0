// What a block computes on a CPU core: the loop of device/product_block.cuh by one thread, whose sums wait in memory.
#pragma once

#include "device/block_parts.cuh"

namespace pyalexnet {

// Its register tiles are multiplied one after the other, slice by slice, from the one buffer that each slice has. On the way
// it asks for the next slices, where these are to be copied.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_on_core(Left& left, Right& right, BlockMemory<Tile, Left>& memory, const Output& out,
                                       const Cut& cut, PaddedRuns out_runs) {
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
  const auto multiply = [&](bool first_slice, auto then) {
    const int next_terms = BlockPlace::at_most(cut.slice_terms, terms_left);
    const int tiles = ceil_div(place.rows, Tile::kThreadRows) * ceil_div(place.columns, Tile::kThreadColumns);
    if constexpr (requires { left.ask(); }) left.begin_to_ask(next_terms, tiles);
    if constexpr (requires { right.ask(); }) right.begin_to_ask(next_terms, tiles);
    Tile::for_each_register_tile(place.rows, place.columns, [&](int m, int n, int row, int column) {
      if constexpr (requires { left.ask(); }) left.ask();
      if constexpr (requires { right.ask(); }) right.ask();
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
