// A slice's products on tensor cores: what device/mma.cuh does term by term goes here by steps of eight words, which are
// 8 terms, or 16 where a word holds two.
#pragma once

#include "device/mma.cuh"
#include "device/tensor_multiply.cuh"

namespace pyalexnet {

// Where in its slices a lane's first elements are.
struct LanePlaces {
  int left, right;
};

// Those for a register tile whose first row and first column these are.
template <class Tile, SliceOrder order>
PYALEXNET_INLINE LanePlaces lane_places(int row, int column) {
  const int group = threadIdx.x % 32 / 4, place = threadIdx.x % 4;
  // The register tile's first row is its warp's and 2 place; what the lane reads begins at `group`.
  return {kept_in_a_register(Tile::left_place(order, row - place * 2 + group, place * 2)),
          kept_in_a_register(Tile::right_place(place * 2, column))};
}

// What a lane reads of a step, as operands of the instruction. The right slice's columns are its left operand and the left
// slice's rows its right one, so that each pair that is read lies in the registers which the instruction takes: of two
// columns, of 16, at one term, and of a row's two terms.
template <class Tile, SliceOrder order>
class TensorFragment {
 public:
  static constexpr int kTerms = 8 * terms_per_word(Tile::kPrecision);
  static constexpr int kSteps = Tile::kDepth / kTerms;  // of a slice

  // Step `step` of slices, of which a lane's first elements are at these places.
  PYALEXNET_INLINE void load(const float* left, const float* right, LanePlaces first, int step) {
    PYALEXNET_UNROLL
    for (int half = 0; half < kTerms / 8; ++half) {
      const int term = step * kTerms + half * 8;
      load_left(left, first.left, term, half);
      load_right(right, first.right, term, half);
    }
  }

  PYALEXNET_INLINE void multiply_add_to(RegisterTile<Tile>& tile) const {
    PYALEXNET_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      PYALEXNET_UNROLL
      for (int j = 0; j < kColumnTiles; ++j) {
        Vec<2>&row = tile.sums[2 * i][j], &next_row = tile.sums[2 * i + 1][j];
        multiply_add({row.lanes[0], next_row.lanes[0], row.lanes[1], next_row.lanes[1]}, columns_[j], rows_[i]);
      }
    }
  }

 private:
  static constexpr int kRowTiles = Tile::kWarpRows / 8, kColumnTiles = Tile::kWarpColumns / 16;

  PYALEXNET_INLINE void load_left(const float* left, int first, int term, int half) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      const auto place = [&](int t) { return left + Tile::left_place_from(order, first, i * 8, term + t); };
      Vec<2> terms;
      if constexpr (order == SliceOrder::kRowMajor) {
        terms = pyalexnet::load<2>(place(0));
      } else {
        terms.set(0, *place(0)), terms.set(1, *place(1));
      }
      place_words(rows_[i].at, 1, 0, half, terms[0], terms[1]);
    }
  }

  PYALEXNET_INLINE void load_right(const float* right, int first, int term, int half) {
    PYALEXNET_UNROLL
    for (int j = 0; j < kColumnTiles; ++j) {
      const auto pair = [&](int t) {
        return pyalexnet::load<2>(right + Tile::right_place_from(first, term + t, j * 16));
      };
      const Vec<2> term_0 = pair(0), term_1 = pair(1);
      PYALEXNET_UNROLL
      for (int e = 0; e < 2; ++e) place_words(columns_[j].at, 2, e, half, term_0[e], term_1[e]);
    }
  }

  // Two terms of one of `count` rows or columns to their words.
  PYALEXNET_INLINE static void place_words(float* words, int count, int n, int half, float first, float second) {
    if constexpr (Tile::kPrecision == Precision::kBf16) {
      words[half * count + n] = bf16_word(first, second);
    } else {
      words[n] = word_of(first), words[count + n] = word_of(second);
    }
  }
  PYALEXNET_INLINE static float word_of(float term) {
    return Tile::kPrecision == Precision::kTf32 ? round_to_tf32(term) : term;  // tf32x3 splits it
  }

  PYALEXNET_INLINE static void multiply_add(LaneSums sums, const LeftWords& left, const RightWords& right) {
    if constexpr (Tile::kPrecision != Precision::kTf32x3) {
      multiply_add_words(Tile::kPrecision, sums, left, right);
    } else {
      // Small products first. A GPU cuts off what a sum has no bits for, so that each step's are added up here.
      const LeftWords left_high = high_parts(left);
      const RightWords right_high = high_parts(right);
      float step[4] = {};
      const LaneSums step_sums{step[0], step[1], step[2], step[3]};
      multiply_add_words(Tile::kPrecision, step_sums, rests(left, left_high), right_high);
      multiply_add_words(Tile::kPrecision, step_sums, left_high, rests(right, right_high));
      multiply_add_words(Tile::kPrecision, step_sums, left_high, right_high);
      sums.first += step[0], sums.second += step[1];
      sums.lower_first += step[2], sums.lower_second += step[3];
    }
  }

  template <class Words>
  PYALEXNET_INLINE static Words high_parts(Words words) {
    PYALEXNET_UNROLL
    for (float& word : words.at) word = round_to_tf32(word);
    return words;
  }
  template <class Words>
  PYALEXNET_INLINE static Words rests(Words words, const Words& high) {
    PYALEXNET_UNROLL
    for (int i = 0; i < static_cast<int>(sizeof(Words) / sizeof(float)); ++i) words.at[i] -= high.at[i];
    return words;
  }

  LeftWords columns_[kColumnTiles];
  RightWords rows_[kRowTiles];
};

}  // namespace pyalexnet
