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
    const int lanes = lanes_there(terms);
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const float* const run = run_seen(i);
      staged_[i] = run ? load_quad<access>(run + place(), lanes, patches_.aligned) : broadcast<4>(0.0f);
    }
    advance();
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 protected:
  PYALEXNET_INLINE int lanes_there(int terms) const { return quad() * 4 < terms ? patches_.run - tap_.place : 0; }
  PYALEXNET_INLINE const float* run_seen(int pass) const {
    return shared_.origins[row(pass)].template run<access>(patches_, tap_.y, tap_.x);
  }
  PYALEXNET_INLINE int place() const { return tap_.place; }
  PYALEXNET_INLINE void advance() { tap_.template advance<access>(patches_, Tile::kDepth); }

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
    const TapCursor tap = this->tap();
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const PatchOrigin origin = this->origin();
      advance();  // first, since what it reads need not be kept beside what the rest does
      if (!is_behind(tap)) {
        const float* const run = run_seen(tap, origin);
        staged_[i] = run ? load_quad<access>(run + tap.place, lanes_there(tap), patches_.aligned) : broadcast<4>(0.0f);
      } else {
        staged_[i] = broadcast<4>(one_at(origin));
      }
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 protected:
  PYALEXNET_INLINE TapCursor tap() const { return shared_.taps[quad()]; }
  PYALEXNET_INLINE bool is_behind(const TapCursor& tap) const { return tap.y >= patches_.kernel_height; }
  PYALEXNET_INLINE const float* run_seen(const TapCursor& tap, const PatchOrigin& origin) const {
    return origin.template run<access>(patches_, tap.y, tap.x);
  }
  PYALEXNET_INLINE PatchOrigin origin() const { return pixel_.origin(patches_); }
  PYALEXNET_INLINE int lanes_there(const TapCursor& tap) const { return patches_.run - tap.place; }
  PYALEXNET_INLINE static float one_at(const PatchOrigin& origin) {
    return origin.y == PatchOrigin::kNowhere ? 0.0f : 1.0f;
  }
  PYALEXNET_INLINE void advance() { pixel_.template advance<access>(patches_, kStep); }

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
      staged_[i] = is_there() ? load_quad<access>(from(), lanes_there(), matrix_.aligned) : broadcast<4>(0.0f);
      advance();
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 protected:
  PYALEXNET_INLINE bool is_there() const { return left_ > 0 && place_ < matrix_.runs.run; }
  PYALEXNET_INLINE const float* from() const { return matrix_.data + next_; }
  // With vectors, columns come by the quad. Elsewhere the thread's column is worked out again, since it would be kept in
  // memory where registers are few.
  PYALEXNET_INLINE int lanes_there() const {
    return access == Access::kVectors ? 4 : columns_ - column(kept_in_a_register(threadIdx.x));
  }
  PYALEXNET_INLINE void advance() {
    left_ -= kStep;
    next_ += kStep * static_cast<Offset>(matrix_.pitch);
    place_ += kStep;
    if constexpr (access == Access::kVectors) {
      if (place_ >= matrix_.runs.padded_run) skip_padding();
    } else {
      while (place_ >= matrix_.runs.padded_run) skip_padding();
    }
  }

 private:
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
