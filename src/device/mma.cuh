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

// What a thread reads of one term: its elements of the left slice and its vectors of the right one.
template <class Tile, SliceOrder order>
struct Fragment {
  float left[Tile::kThreadRows];
  Vec<Tile::kVector> right[RegisterTile<Tile>::kColumnVectors];

  // The addresses are those of the register tile's first row and first column of the term.
  PYALEXNET_INLINE void load(const float* left_term, const float* right_term) {
    if constexpr (order == SliceOrder::kDepthMajor && Tile::kLeftQuads) {
      PYALEXNET_UNROLL
      for (int i = 0; i < Tile::kThreadRows; i += 4) {
        const Vec<4> quad = pyalexnet::load<4>(left_term + Tile::row(i));
        PYALEXNET_UNROLL
        for (int e = 0; e < 4; ++e) left[i + e] = quad[e];
      }
    } else {
      constexpr int step = order == SliceOrder::kRowMajor ? Tile::left_pitch(order) : 1;
      PYALEXNET_UNROLL
      for (int i = 0; i < Tile::kThreadRows; ++i) left[i] = left_term[Tile::row(i) * step];
    }
    load_right(right_term);
  }

  PYALEXNET_INLINE void load_right(const float* right_term) {
    PYALEXNET_UNROLL
    for (int j = 0; j < RegisterTile<Tile>::kColumnVectors; ++j) {
      right[j] = pyalexnet::load<Tile::kVector>(right_term + Tile::column(j));
    }
  }

  PYALEXNET_INLINE void multiply_add_to(RegisterTile<Tile>& tile) const {
    PYALEXNET_UNROLL
    for (int n = 0; n < Tile::kThreadRows; ++n) {
      const int i = Tile::nth_row(n);
      PYALEXNET_UNROLL
      for (int j = 0; j < RegisterTile<Tile>::kColumnVectors; ++j) {
        tile.sums[i][j] = fma(broadcast<Tile::kVector>(left[i]), right[j], tile.sums[i][j]);
      }
    }
  }
};

// Where a register tile's columns of a slice of the right matrix are: those of the first term, and how far it is from
// there to the next one's.
struct RightPanel {
  const float* at;
  int64_t step;
};

// tile.sums[i][j] += sum over k < depth of left[k][row i] * right[k][column vector j]. `left` points at the tile's first
// element of the first term. (A CPU core looks ahead by itself.)
template <class Tile, SliceOrder order>
PYALEXNET_INLINE void multiply_add(RegisterTile<Tile>& tile, const float* left, RightPanel right, int depth) {
  constexpr int left_step = order == SliceOrder::kRowMajor ? 1 : Tile::left_pitch(order);
  PYALEXNET_UNROLL_TWICE
  for (int k = 0; k < depth; ++k) {
    Fragment<Tile, order> fragment;
    fragment.load(left + k * left_step, right.at + k * right.step);
    fragment.multiply_add_to(tile);
  }
}

// The first terms of a register tile's rows of the left matrix, where they are in memory.
template <class Tile>
struct LeftRows {
  const float* at[Tile::kThreadRows];
};

// The same for rows in memory whose terms are `step` floats apart, from `offset` on.
template <class Tile>
PYALEXNET_INLINE void multiply_add(RegisterTile<Tile>& tile, const LeftRows<Tile>& rows, int64_t offset, int64_t step,
                                   RightPanel right, int depth) {
  PYALEXNET_UNROLL_TWICE
  for (int k = 0; k < depth; ++k) {
    Fragment<Tile, SliceOrder::kRowMajor> fragment;
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) fragment.left[i] = rows.at[i][offset + k * step];
    fragment.load_right(right.at + k * right.step);
    fragment.multiply_add_to(tile);
  }
}

// The same for full slices that follow each other: every term is read while the one before it is multiplied, the first
// term of a slice during the last one of the slice before.
template <class Tile, SliceOrder order>
class TermByTerm {
 public:
  // Reads the first term of a slice.
  PYALEXNET_INLINE void begin(const float* left, const float* right) { fragments_[0].load(left, right); }

  PYALEXNET_INLINE void multiply_all_but_last(RegisterTile<Tile>& tile, const float* left, const float* right) {
    PYALEXNET_UNROLL
    for (int k = 1; k < Tile::kDepth; ++k) {
      fragments_[k % 2].load(left + k * Tile::left_pitch(order), right + k * Tile::kPanel);
      fragments_[(k - 1) % 2].multiply_add_to(tile);
    }
  }

  PYALEXNET_INLINE void multiply_last(RegisterTile<Tile>& tile) const { fragments_[1].multiply_add_to(tile); }

 private:
  static_assert(Tile::kDepth % 2 == 0, "the last term is in the second fragment, and the first one is free");
  Fragment<Tile, order> fragments_[2];
};

}  // namespace pyalexnet
