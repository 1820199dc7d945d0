// The multiply-add at the heart of every matrix product: a register tile of sums += left slice x right slice.
#pragma once

#include "device/tile.cuh"

namespace pyalexnet {

// The sums of one register tile: row i, column vector j.
template <class Tile>
struct RegisterTile {
  static constexpr int kColumnVectors = Tile::kThreadColumns / Tile::kVector;
  Vec<Tile::kVector> sums[Tile::kThreadRows][kColumnVectors];

  PYALEXNET_INLINE void clear() {
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      PYALEXNET_UNROLL
      for (int j = 0; j < kColumnVectors; ++j) sums[i][j] = broadcast<Tile::kVector>(0.0f);
    }
  }
};

// All sums of a thread.
template <class Tile>
struct ThreadSums {
  RegisterTile<Tile> tiles[Tile::kRowTiles][Tile::kColumnTiles];
};

// The tile's kThreadRows elements of one term of the left slice; `left` points at the first.
template <class Tile, SliceOrder order>
PYALEXNET_INLINE void load_left(float (&to)[Tile::kThreadRows], const float* left) {
  if constexpr (order == SliceOrder::kDepthMajor && Tile::kThreads > 1) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; i += 4) {
      const Vec<4> quad = load<4>(left + Tile::row(i));
      PYALEXNET_UNROLL
      for (int e = 0; e < 4; ++e) to[i + e] = quad[e];
    }
  } else {
    constexpr int step = order == SliceOrder::kRowMajor ? Tile::left_pitch(order) : 1;
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) to[i] = left[Tile::row(i) * step];
  }
}

// tile.sums[i][j] += sum over k < depth of left[k][row i] * right[k][column vector j]. `left` and `right` point at
// the tile's first element of the first term. A thread on CPU cores takes `depth` as it is; on a GPU slices are
// always full.
template <class Tile, SliceOrder order>
PYALEXNET_INLINE void multiply_add(RegisterTile<Tile>& tile, const float* left, const float* right, int depth) {
  constexpr int kColumnVectors = RegisterTile<Tile>::kColumnVectors;
  constexpr int left_step = order == SliceOrder::kRowMajor ? 1 : Tile::left_pitch(order);
  const int terms = Tile::kThreads > 1 ? Tile::kDepth : depth;
  // Twice: more, and a GPU's compiler has so many loads under way that registers spill.
  PYALEXNET_UNROLL_TWICE
  for (int k = 0; k < terms; ++k) {
    float a[Tile::kThreadRows];
    Vec<Tile::kVector> b[kColumnVectors];
    load_left<Tile, order>(a, left + k * left_step);
    PYALEXNET_UNROLL
    for (int j = 0; j < kColumnVectors; ++j) b[j] = load<Tile::kVector>(right + k * Tile::kPanel + Tile::column(j));
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      PYALEXNET_UNROLL
      for (int j = 0; j < kColumnVectors; ++j) {
        tile.sums[i][j] = fma(broadcast<Tile::kVector>(a[i]), b[j], tile.sums[i][j]);
      }
    }
  }
}

}  // namespace pyalexnet
