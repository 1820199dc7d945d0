// Slices for GPUs: a thread holds its quads of the next slice in registers while the current one is multiplied. fetch()
// reads device memory, commit() writes shared memory.
#pragma once

#include <type_traits>

#include "device/patches.cuh"
#include "device/quad_places.cuh"

namespace pyalexnet {

// min(4, lanes) floats from `from`, zeros in the other lanes.
template <Access access>
PYALEXNET_INLINE Vec<4> load_quad(const float* from, int lanes, bool aligned) {
  return load_lanes<4>(from, lanes, access == Access::kVectors || aligned);
}

// Left slices whose rows are rows of the patch matrix and whose terms are its columns.
template <class Tile, Access access>
class StagedPatchRows : RowQuads<Tile> {
  using Places = RowQuads<Tile>;
  using Places::kPasses;
  using Places::quad;
  using Places::row;

 public:
  using Places::kOrder;
  static constexpr ReadSteps kSteps{Tile::kDepth, 1};
  struct Shared {
    PatchOrigin origins[Tile::kRows];
  };

  PYALEXNET_INLINE StagedPatchRows(const Patches& patches, int group, int64_t first_row, int, int64_t first_column,
                                   Shared& shared)
      : patches_(patches), shared_(shared), tap_(patches, static_cast<int>(first_column) + quad() * 4) {
    for (int r = threadIdx.x; r < Tile::kRows; r += Tile::kThreads) {
      shared.origins[r] = PixelCursor(patches, group, first_row + r).origin(patches);
    }
  }

  PYALEXNET_INLINE void fetch(int terms) {
    const int lanes = quad() * 4 < terms ? patches_.run - tap_.place : 0;
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const float* run = shared_.origins[row(i)].template run<access>(patches_, tap_.y, tap_.x);
      staged_[i] = run ? load_quad<access>(run + tap_.place, lanes, patches_.aligned) : broadcast<4>(0.0f);
    }
    tap_.template advance<access>(patches_, Tile::kDepth);
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 private:
  const Patches& patches_;
  const Shared& shared_;
  TapCursor tap_;
  Vec<4> staged_[kPasses];
};

// Left slices whose rows are columns of the patch matrix and whose terms are its rows; one more row behind the last
// holds ones.
template <class Tile, Access access>
class StagedPatchColumns : ColumnQuads<Tile> {
  using Places = ColumnQuads<Tile>;
  using Places::kPasses;
  using Places::kQuads;
  using Places::kStep;
  using Places::quad;
  using Places::term;

 public:
  using Places::kOrder;
  static constexpr ReadSteps kSteps{1, kStep};
  struct Shared {
    TapCursor taps[kQuads];
  };

  PYALEXNET_INLINE StagedPatchColumns(const Patches& patches, int group, int64_t first_column, int, int64_t first_pixel,
                                      Shared& shared)
      : patches_(patches), shared_(shared), pixel_(patches, group, first_pixel + term(0)) {
    for (int q = threadIdx.x; q < kQuads; q += Tile::kThreads) {
      shared.taps[q] = TapCursor(patches, static_cast<int>(first_column) + q * 4);
    }
  }

  PYALEXNET_INLINE void fetch(int) {
    const TapCursor tap = shared_.taps[quad()];
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const PatchOrigin origin = pixel_.origin(patches_);
      if (tap.y < patches_.kernel_height) {
        const float* run = origin.template run<access>(patches_, tap.y, tap.x);
        const int lanes = patches_.run - tap.place;
        staged_[i] = run ? load_quad<access>(run + tap.place, lanes, patches_.aligned) : broadcast<4>(0.0f);
      } else {
        staged_[i] = broadcast<4>(origin.y == PatchOrigin::kNowhere ? 0.0f : 1.0f);
      }
      pixel_.template advance<access>(patches_, kStep);
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 private:
  const Patches& patches_;
  const Shared& shared_;
  PixelCursor pixel_;
  Vec<4> staged_[kPasses];
};

// Slices of the right matrix.
template <class Tile, Access access>
class StagedRightRows : RightQuads<Tile> {
  using Places = RightQuads<Tile>;
  using Places::column;
  using Places::kPasses;
  using Places::kStep;
  using Places::term;

 public:
  // `columns` lies in shared memory, where it takes no register.
  PYALEXNET_INLINE StagedRightRows(const RightMatrix& matrix, int64_t first_column, const int& columns,
                                   int64_t first_term)
      : matrix_(matrix), columns_(columns) {
    const int64_t first = first_term + term(0);
    place_ = static_cast<int>(first % matrix.runs.padded_run);
    const int64_t row = first / matrix.runs.padded_run * matrix.runs.run + place_;
    next_ = static_cast<Offset>(row * matrix.pitch + first_column + column());
    left_ = static_cast<int>(matrix.terms - first < kMaxTerms ? matrix.terms - first : kMaxTerms);
    if (column() >= columns) left_ = 0;
  }

  PYALEXNET_INLINE void fetch(int) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const bool there = left_ > 0 && place_ < matrix_.runs.run;
      // With vectors, columns come by the quad.
      const int lanes = access == Access::kVectors ? 4 : columns_ - column();
      staged_[i] = there ? load_quad<access>(matrix_.data + next_, lanes, matrix_.aligned) : broadcast<4>(0.0f);
      advance(kStep);
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 private:
  PYALEXNET_INLINE void advance(int step) {
    left_ -= step;
    next_ += step * static_cast<Offset>(matrix_.pitch);
    place_ += step;
    if constexpr (access == Access::kVectors) {
      if (place_ >= matrix_.runs.padded_run) skip_padding();
    } else {
      while (place_ >= matrix_.runs.padded_run) skip_padding();
    }
  }

  PYALEXNET_INLINE void skip_padding() {
    place_ -= matrix_.runs.padded_run;
    next_ -= (matrix_.runs.padded_run - matrix_.runs.run) * static_cast<Offset>(matrix_.pitch);
  }

  using Offset = std::conditional_t<access == Access::kVectors, int, int64_t>;

  const RightMatrix& matrix_;
  const int& columns_;
  Offset next_;  // floats from the matrix's start
  int place_, left_;
  Vec<4> staged_[kPasses];
};

}  // namespace pyalexnet
