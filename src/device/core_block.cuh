// What a block computes on a CPU core: the loop of device/product_block.cuh by one thread, whose sums wait in memory.
#pragma once

#include <algorithm>
#include <type_traits>

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

// The block of a tile of one row, where the left matrix lies in rows: reading the right one takes the time, so it is read
// once, where it is and in the order in which it lies, and no slice is made of either.
template <class Tile, class Left>
PYALEXNET_INLINE void multiply_rows_in_place(const Patches& patches, const RightMatrix& right,
                                             BlockMemory<Tile, Left>& memory, const Output& out, const Cut& cut,
                                             PaddedRuns out_runs) {
  constexpr int V = Tile::kVector, kVectors = Tile::kThreadColumns / V;
  const BlockPlace& place = memory.place;
  const float* const left =
      patches.input + place.group * patches.group_stride + place.first_row * patches.pixel_stride + place.first_term;
  const float* const matrix =
      right.data + place.group * right.group_stride + place.first_term * right.pitch + place.first_column;
  const int64_t pitch = right.pitch;
  // The sums of a panel += so many terms of x times those of w, whose vectors load_right gives.
  const auto add = [&]<int terms>(std::integral_constant<int, terms>, float* sums, const float* x, const float* w,
                                  auto load_right) {
    Vec<V> tile[kVectors];
    PYALEXNET_UNROLL
    for (int j = 0; j < kVectors; ++j) tile[j] = load<V>(sums + j * V);
    PYALEXNET_UNROLL
    for (int k = 0; k < terms; ++k) {
      PYALEXNET_UNROLL
      for (int j = 0; j < kVectors; ++j) tile[j] = fma(broadcast<V>(x[k]), load_right(w + k * pitch, j), tile[j]);
    }
    PYALEXNET_UNROLL
    for (int j = 0; j < kVectors; ++j) store(sums + j * V, tile[j]);
  };
  const auto add_to_row = [&](auto terms, float* sums, const float* x, const float* w) {
    int column = 0;
    for (; column + Tile::kThreadColumns <= place.columns; column += Tile::kThreadColumns) {
      add(terms, sums + column, x, w + column, [](const float* at, int j) { return load<V>(at + j * V); });
    }
    if (const int rest = place.columns - column; rest > 0) {
      add(terms, sums + column, x, w + column,
          [rest](const float* at, int j) { return load_lanes<V>(at + j * V, rest - j * V, true); });
    }
  };

  constexpr int kTerms = 4;
  for (int row = 0; row < place.rows; ++row) clear_floats(memory.sums.row(row), Tile::kColumns);
  for (int done = 0; done < place.terms; done += kTerms) {
    const int terms = std::min(kTerms, place.terms - done);
    for (int row = 0; row < place.rows; ++row) {
      const float* const x = left + row * patches.pixel_stride + done;
      if (terms == kTerms) {
        add_to_row(std::integral_constant<int, kTerms>(), memory.sums.row(row), x, matrix + done * pitch);
      } else {
        for (int k = 0; k < terms; ++k) {
          add_to_row(std::integral_constant<int, 1>(), memory.sums.row(row), x + k, matrix + (done + k) * pitch);
        }
      }
    }
  }
  Tile::for_each_register_tile(place.rows, place.columns, [&](int m, int n, int row, int column) {
    write_tile(memory.sums.tiles[m][n], row, column, out, cut, place, out_runs);
  });
}

// Its register tiles are multiplied one after the other, slice by slice, from the one buffer that each slice has. On the way
// it asks for the next slices, where these are to be copied.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_on_core(Left& left, Right& right, const Patches& patches,
                                       const RightMatrix& right_matrix, BlockMemory<Tile, Left>& memory,
                                       const Output& out, const Cut& cut, PaddedRuns out_runs) {
  if constexpr (Tile::kThreadRows == 1 && Left::kOrder == SliceOrder::kRowMajor) {
    if (patches.is_matrix()) return multiply_rows_in_place<Tile>(patches, right_matrix, memory, out, cut, out_runs);
  }
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
