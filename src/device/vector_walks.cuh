// Where a thread's quads come from: a walk knows the places of its quads in the next slice (device/quad_places.cuh), and
// next_slice(terms, bring) calls bring(pass, source) for each of them, `terms` being left. A quad may be there in part.
#pragma once

#include <type_traits>

#include "device/patches.cuh"
#include "device/quad_places.cuh"

namespace pyalexnet {

// Of left slices whose rows are rows of the patch matrix and whose terms are its columns.
template <class Tile, Access access>
class PatchRowWalk {
 public:
  using Places = RowQuads<Tile>;
  static constexpr SliceOrder kOrder = Places::kOrder;
  static constexpr Access kAccess = access;
  static constexpr ReadSteps kSteps{Tile::kDepth, 1};
  struct Shared {
    PatchOrigin origins[Tile::kRows];
  };

  PYALEXNET_INLINE PatchRowWalk(const Patches& patches, int group, int64_t first_row, int, int64_t first_column,
                                Shared& shared)
      : patches_(patches), shared_(shared), tap_(patches, static_cast<int>(first_column) + Places::quad() * 4) {
    for (int r = threadIdx.x; r < Tile::kRows; r += Tile::kThreads) {
      shared.origins[r] = PixelCursor(patches, group, first_row + r).origin(patches);
    }
  }

  template <class Bring>
  PYALEXNET_INLINE void next_slice(int terms, Bring bring) {
    const int lanes = Places::quad() * 4 < terms ? patches_.run - tap_.place : 0;
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) {
      const float* run = shared_.origins[Places::row(i)].template run<access>(patches_, tap_.y, tap_.x);
      bring(i, run ? QuadSource{run + tap_.place, lanes} : QuadSource{});
    }
    tap_.template advance<access>(patches_, Tile::kDepth);
  }

  PYALEXNET_INLINE bool is_aligned() const { return patches_.aligned; }

 private:
  const Patches& patches_;
  const Shared& shared_;
  TapCursor tap_;
};

// Of left slices whose rows are columns of the patch matrix and whose terms are its rows; one more row behind the last
// holds ones.
template <class Tile, Access access>
class PatchColumnWalk {
 public:
  using Places = ColumnQuads<Tile>;
  static constexpr SliceOrder kOrder = Places::kOrder;
  static constexpr Access kAccess = access;
  static constexpr ReadSteps kSteps{1, Places::kStep};
  struct Shared {
    TapCursor taps[Places::kQuads];
  };

  PYALEXNET_INLINE PatchColumnWalk(const Patches& patches, int group, int64_t first_column, int, int64_t first_pixel,
                                   Shared& shared)
      : patches_(patches), shared_(shared), pixel_(patches, group, first_pixel + Places::term(0)) {
    for (int q = threadIdx.x; q < Places::kQuads; q += Tile::kThreads) {
      shared.taps[q] = TapCursor(patches, static_cast<int>(first_column) + q * 4);
    }
  }

  template <class Bring>
  PYALEXNET_INLINE void next_slice(int, Bring bring) {
    const TapCursor tap = shared_.taps[Places::quad()];
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) {
      const PatchOrigin origin = pixel_.origin(patches_);
      if (tap.y < patches_.kernel_height) {
        const float* run = origin.template run<access>(patches_, tap.y, tap.x);
        bring(i, run ? QuadSource{run + tap.place, patches_.run - tap.place} : QuadSource{});
      } else {
        bring(i, QuadSource{nullptr, 0, origin.y == PatchOrigin::kNowhere ? 0.0f : 1.0f});
      }
      pixel_.template advance<access>(patches_, Places::kStep);
    }
  }

  PYALEXNET_INLINE bool is_aligned() const { return patches_.aligned; }

 private:
  const Patches& patches_;
  const Shared& shared_;
  PixelCursor pixel_;
};

// Of slices of the right matrix.
template <class Tile, Access access>
class RightRowWalk {
 public:
  using Places = RightQuads<Tile>;
  static constexpr Access kAccess = access;

  // `columns` lies in shared memory, where it takes no register.
  PYALEXNET_INLINE RightRowWalk(const RightMatrix& matrix, int64_t first_column, const int& columns, int64_t first_term)
      : matrix_(matrix), columns_(columns) {
    const int64_t first = first_term + Places::term(0);
    place_ = static_cast<int>(first % matrix.runs.padded_run);
    const int64_t row = first / matrix.runs.padded_run * matrix.runs.run + place_;
    next_ = static_cast<Offset>(row * matrix.pitch + first_column + Places::column());
    left_ = static_cast<int>(matrix.terms - first < kMaxTerms ? matrix.terms - first : kMaxTerms);
    if (Places::column() >= columns) left_ = 0;
  }

  template <class Bring>
  PYALEXNET_INLINE void next_slice(int, Bring bring) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Places::kPasses; ++i) {
      const bool there = left_ > 0 && place_ < matrix_.runs.run;
      // With vectors, columns come by the quad.
      const int lanes = access == Access::kVectors ? 4 : columns_ - Places::column();
      bring(i, QuadSource{matrix_.data + next_, there ? lanes : 0});
      advance();
    }
  }

  PYALEXNET_INLINE bool is_aligned() const { return matrix_.aligned; }

 private:
  PYALEXNET_INLINE void advance() {
    left_ -= Places::kStep;
    next_ += Places::kStep * static_cast<Offset>(matrix_.pitch);
    place_ += Places::kStep;
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
};

}  // namespace pyalexnet
