// A slice's products on tensor cores: what device/mma.cuh does term by term goes here by steps of eight words.
#pragma once

#include "device/mma.cuh"
#include "device/tensor_multiply.cuh"

namespace pyalexnet {

// What a lane reads of a step: of every 16 rows two neighbours at word `place` and two at place + 4, which are the
// instruction's operand as they lie in registers, and of every 8 columns one at each of both words.
template <class Tile>
class TensorFragment {
 public:
  static constexpr int kStepWords = 8;

  // Step `step` of a slice. The addresses are those of the register tile's first row and first column in the slice.
  PYALEXNET_INLINE void load(const float* left, const float* right, int step) {
    const int group = threadIdx.x % 32 / 4, place = threadIdx.x % 4;
    PYALEXNET_UNROLL
    for (int h = 0; h < 2; ++h) {
      const int word = step * kStepWords + h * 4;
      const float* const left_word = left + (word + place) * Tile::left_pitch(SliceOrder::kDepthMajor);
      // The register tile's first column is 2 place; those that the lane reads begin at its group's.
      const float* const right_word = right + (word + place) * Tile::right_pitch() + (group - 2 * place);
      PYALEXNET_UNROLL
      for (int i = 0; i < kRowTiles; ++i) {
        const Vec<2> rows = pyalexnet::load<2>(left_word + (Tile::swizzled(2 * group + i * 16, word) - 2 * group));
        left_[i].at[2 * h] = rows[0], left_[i].at[2 * h + 1] = rows[1];
      }
      PYALEXNET_UNROLL
      for (int j = 0; j < kColumnTiles; ++j) right_[j].at[h] = right_word[j * 8];
    }
  }

  PYALEXNET_INLINE void multiply_add_to(RegisterTile<Tile>& tile) const {
    PYALEXNET_UNROLL
    for (int j = 0; j < kColumnTiles; ++j) {
      PYALEXNET_UNROLL
      for (int i = 0; i < kRowTiles; ++i)
        multiply_add(tile.sums[2 * i][j], tile.sums[2 * i + 1][j], left_[i], right_[j]);
    }
  }

 private:
  static constexpr int kRowTiles = Tile::kWarpRows / 16, kColumnTiles = Tile::kWarpColumns / 8;

  // `row` and `next_row` are the lane's sums.
  PYALEXNET_INLINE static void multiply_add(Vec<2>& row, Vec<2>& next_row, const LeftWords& left,
                                            const RightWords& right) {
    if constexpr (Tile::kPrecision != Precision::kTf32x3) {
      const LaneSums sums{row.lanes[0], row.lanes[1], next_row.lanes[0], next_row.lanes[1]};
      multiply_add_words(Tile::kPrecision, sums, left, right);
    } else {
      // Small products first. A GPU cuts off what a sum has no bits for, so that each step's are added up here.
      const LeftWords left_high = high_parts(left);
      const RightWords right_high = high_parts(right);
      Vec<2> step = broadcast<2>(0.0f), next_step = broadcast<2>(0.0f);
      const LaneSums sums{step.lanes[0], step.lanes[1], next_step.lanes[0], next_step.lanes[1]};
      multiply_add_words(Tile::kPrecision, sums, rests(left, left_high), right_high);
      multiply_add_words(Tile::kPrecision, sums, left_high, rests(right, right_high));
      multiply_add_words(Tile::kPrecision, sums, left_high, right_high);
      row = row + step, next_row = next_row + next_step;
    }
  }

  template <class Words>
  PYALEXNET_INLINE static Words high_parts(Words words) {
    PYALEXNET_UNROLL
    for (float& word : words.at) word = high_part(word);
    return words;
  }
  template <class Words>
  PYALEXNET_INLINE static Words rests(Words words, const Words& high) {
    PYALEXNET_UNROLL
    for (int i = 0; i < static_cast<int>(sizeof(Words) / sizeof(float)); ++i) words.at[i] -= high.at[i];
    return words;
  }

  LeftWords left_[kRowTiles];
  RightWords right_[kColumnTiles];
};

// For full slices that follow each other, as TermByTerm. There are registers for one fragment: while a warp waits for it,
// others multiply. The last step of a slice is multiplied behind the barrier.
template <class Tile>
class StepByStep {
 public:
  PYALEXNET_INLINE void begin(const float*, const float*) {}

  PYALEXNET_INLINE void multiply_all_but_last(RegisterTile<Tile>& tile, const float* left, const float* right) {
    PYALEXNET_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      if (step > 0) fragment_.multiply_add_to(tile);
      fragment_.load(left, right, step);
    }
  }

  PYALEXNET_INLINE void multiply_last(RegisterTile<Tile>& tile) const { fragment_.multiply_add_to(tile); }

 private:
  static constexpr int kSteps = Tile::kWords / TensorFragment<Tile>::kStepWords;
  TensorFragment<Tile> fragment_;
};

}  // namespace pyalexnet
