// Slices for GPUs word by word (SliceWay::kWords), for patches whose runs are no whole quads, such as conv1's 33 floats:
// nothing is padded, neither the sums' terms nor the rows of the weights' gradient. Where no patch reaches beyond the
// input (Access::kInside), where each word comes from is worked out once, as in device/staged_quads.cuh.
#pragma once

#include "device/patches.cuh"

namespace pyalexnet {

// Of a left slice whose rows are rows of the patch matrix. Neighbouring threads take a row's terms.
template <class Tile>
struct RowWords {
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  static constexpr int kRowsPerPass = Tile::kThreads / Tile::kDepth;
  static constexpr int kPasses = Tile::kRows / kRowsPerPass;
  static_assert(Tile::kThreads % Tile::kDepth == 0 && Tile::kRows % kRowsPerPass == 0, "threads share out the slice");

  PYALEXNET_INLINE static int term() { return threadIdx.x % Tile::kDepth; }
  PYALEXNET_INLINE static int row(int pass) { return pass * kRowsPerPass + threadIdx.x / Tile::kDepth; }
  PYALEXNET_INLINE static void commit(float* slice, const float (&staged)[kPasses]) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) slice[Tile::left_place(kOrder, row(i), term())] = staged[i];
  }
};

// Of a left slice whose rows are columns of the patch matrix. Neighbouring threads take a term's columns.
template <class Tile>
struct ColumnWords {
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  static constexpr int kColumnsPerPass = Tile::kThreads / Tile::kDepth;
  static constexpr int kPasses = Tile::kRows / kColumnsPerPass;
  static_assert(Tile::kThreads % Tile::kDepth == 0 && Tile::kRows % kColumnsPerPass == 0,
                "threads share out the slice");

  PYALEXNET_INLINE static int term() { return threadIdx.x / kColumnsPerPass; }
  PYALEXNET_INLINE static int column(int pass) { return threadIdx.x % kColumnsPerPass + kColumnsPerPass * pass; }
  PYALEXNET_INLINE static void commit(float* slice, const float (&staged)[kPasses]) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) slice[Tile::left_place(kOrder, column(i), term())] = staged[i];
  }
};

// Left slices whose rows are rows of the patch matrix and whose terms are its columns.
template <class Tile, Access access>
class StagedPatchRowWords : RowWords<Tile> {
  using Places = RowWords<Tile>;
  using Places::kPasses;
  using Places::row;
  using Places::term;

 public:
  using Places::kOrder;
  struct Shared {
    PatchOrigin origins[Tile::kRows];
  };

  PYALEXNET_INLINE StagedPatchRowWords(const Patches& patches, int group, int64_t first_row, int, int64_t first_column,
                                       Shared& shared)
      : patches_(patches), shared_(shared), tap_(patches, static_cast<int>(first_column) + term()) {
    for (int r = threadIdx.x; r < Tile::kRows; r += Tile::kThreads) {
      shared.origins[r] = PixelCursor(patches, group, first_row + r).origin(patches);
    }
  }

  PYALEXNET_INLINE void fetch(int terms) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const float* const run = shared_.origins[row(i)].run(patches_, tap_.y, tap_.x);
      staged_[i] = run && term() < terms ? run[tap_.place] : 0.0f;
    }
    tap_.advance(patches_, Tile::kDepth);
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 private:
  const Patches& patches_;
  const Shared& shared_;
  TapCursor tap_;
  float staged_[kPasses];
};

template <class Tile>
class StagedPatchRowWords<Tile, Access::kInside> : RowWords<Tile> {
  using Places = RowWords<Tile>;
  using Places::kPasses;
  using Places::row;
  using Places::term;

 public:
  using Places::kOrder;
  struct Shared {};

  static bool fits(const Patches& patches, const RightMatrix& right) {
    return patches.reads_inside({.columns = Tile::kDepth, .rows = 1}) && right.reads_quads(Tile::kDepth);
  }

  PYALEXNET_INLINE StagedPatchRowWords(const Patches& patches, int group, int64_t first_row, int rows,
                                       int64_t first_column, Shared&)
      : patches_(patches) {
    const PixelCursor first(patches, group, first_row);
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      // Behind the last row the first one again, whose sums are not written.
      const int x = first.out_x() + (row(i) < rows ? row(i) : 0), y = first.out_y() + x / patches.out_width;
      const int image = static_cast<int>(first.image() + y / patches.out_height * patches.image_stride);
      offsets_[i] = image + y % patches.out_height * patches.stride * static_cast<int>(patches.row_stride) +
                    x % patches.out_width * patches.stride * static_cast<int>(patches.pixel_stride);
    }
    const TapCursor tap(patches, static_cast<int>(first_column) + term());
    place_ = tap.place;
    next_ = patches.input + offset_in_patch(patches, tap.y, tap.x, tap.place);
  }

  PYALEXNET_INLINE void fetch(int terms) {
    const bool there = term() < terms;
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) staged_[i] = there ? next_[kept_in_a_register(offsets_[i])] : 0.0f;
    place_ += Tile::kDepth, next_ += Tile::kDepth;
    if (place_ >= patches_.run) {
      place_ -= patches_.run, next_ += static_cast<int>(patches_.row_stride) - patches_.run;
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 private:
  const Patches& patches_;
  int offsets_[kPasses];  // of the row's patch, in floats from the input's start
  int place_;             // of the thread's term in its run
  const float* next_;     // that term of a patch at the input's start
  float staged_[kPasses];
};

// Left slices whose rows are columns of the patch matrix and whose terms are its rows; one more row behind the last holds
// ones.
template <class Tile, Access access>
class StagedPatchColumnWords : ColumnWords<Tile> {
  using Places = ColumnWords<Tile>;
  using Places::column;
  using Places::kPasses;
  using Places::term;

 public:
  using Places::kOrder;
  struct Shared {
    TapCursor taps[Tile::kRows];
  };

  PYALEXNET_INLINE StagedPatchColumnWords(const Patches& patches, int group, int64_t first_column, int,
                                          int64_t first_pixel, Shared& shared)
      : patches_(patches), shared_(shared), pixel_(patches, group, first_pixel + term()) {
    for (int r = threadIdx.x; r < Tile::kRows; r += Tile::kThreads) {
      shared.taps[r] = TapCursor(patches, static_cast<int>(first_column) + r);
    }
  }

  PYALEXNET_INLINE void fetch(int) {
    const PatchOrigin origin = pixel_.origin(patches_);
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const TapCursor tap = shared_.taps[column(i)];
      const bool behind = tap.y >= patches_.kernel_height;
      const float* const run = behind ? nullptr : origin.run(patches_, tap.y, tap.x);
      staged_[i] = run ? run[tap.place] : behind && origin.y != PatchOrigin::kNowhere ? 1.0f : 0.0f;
    }
    pixel_.advance(patches_, Tile::kDepth);
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 private:
  const Patches& patches_;
  const Shared& shared_;
  PixelCursor pixel_;
  float staged_[kPasses];
};

template <class Tile>
class StagedPatchColumnWords<Tile, Access::kInside> : ColumnWords<Tile> {
  using Places = ColumnWords<Tile>;
  using Places::column;
  using Places::kPasses;
  using Places::term;

 public:
  using Places::kOrder;
  struct Shared {};

  static bool fits(const Patches& patches, const RightMatrix& right) {
    return patches.reads_inside({.columns = 1, .rows = Tile::kDepth}) && right.reads_quads(Tile::kDepth);
  }

  PYALEXNET_INLINE StagedPatchColumnWords(const Patches& patches, int group, int64_t first_column, int,
                                          int64_t first_pixel, Shared&)
      : patches_(patches) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      // Behind the last column the block's first one, which is not written there.
      const int there = static_cast<int>(first_column) + column(i) < patches.columns() ? column(i) : 0;
      const TapCursor tap(patches, static_cast<int>(first_column) + there);
      offsets_[i] = static_cast<int>(offset_in_patch(patches, tap.y, tap.x, tap.place));
    }
    const int ones = patches.columns() - static_cast<int>(first_column);
    ones_ = ones < Tile::kRows && ones % Places::kColumnsPerPass == column(0) ? ones : -1;
    const PixelCursor pixel(patches, group, first_pixel + term());
    out_x_ = pixel.out_x(), out_y_ = pixel.out_y();
    next_ = patches.input + pixel.image() + out_y_ * row_step() + out_x_ * pixel_step();
  }

  PYALEXNET_INLINE void fetch(int terms) {
    const bool there = term() < terms;
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) staged_[i] = there ? next_[kept_in_a_register(offsets_[i])] : 0.0f;
    advance();
  }

  // Ones behind the last pixel do no harm: they are multiplied by zeros.
  PYALEXNET_INLINE void commit(float* slice) const {
    Places::commit(slice, staged_);
    if (ones_ >= 0) slice[Tile::left_place(kOrder, ones_, term())] = 1.0f;
  }

 private:
  PYALEXNET_INLINE int pixel_step() const { return patches_.stride * static_cast<int>(patches_.pixel_stride); }
  PYALEXNET_INLINE int row_step() const { return patches_.stride * static_cast<int>(patches_.row_stride); }

  PYALEXNET_INLINE void advance() {
    int further = Tile::kDepth * pixel_step();
    out_x_ += Tile::kDepth;
    if (out_x_ >= patches_.out_width) {
      out_x_ -= patches_.out_width, ++out_y_;
      further += row_step() - patches_.out_width * pixel_step();
    }
    if (out_y_ == patches_.out_height) {
      out_y_ = 0;
      further += static_cast<int>(patches_.image_stride) - patches_.out_height * row_step();
    }
    next_ += further;
  }

  const Patches& patches_;
  int offsets_[kPasses];  // in the patch
  int ones_;              // the row behind the last one, where it is this thread's; else -1
  int out_x_, out_y_;     // the next pixel
  const float* next_;     // where its patch begins
  float staged_[kPasses];
};

// Slices of the right matrix. Neighbouring threads take neighbouring columns.
template <class Tile, Access access>
class StagedRightWords {
 public:
  PYALEXNET_INLINE StagedRightWords(const RightMatrix& matrix, int64_t first_column, const int& columns,
                                    int64_t first_term)
      : pitch_(matrix.pitch), next_(matrix.data + (first_term + term(0)) * pitch_ + first_column + column()) {
    least_terms_ = column() < columns ? term(0) + 1 : INT32_MAX / 2;
  }

  PYALEXNET_INLINE void fetch(int terms) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      staged_[i] = terms >= least_terms_ + i * kStep ? next_[i * kStep * pitch_] : 0.0f;
    }
    next_ += Tile::kDepth * pitch_;
  }

  PYALEXNET_INLINE void commit(float* slice) const {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) slice[Tile::right_place(term(i), column())] = staged_[i];
  }

 private:
  static constexpr int kStep = Tile::kThreads / Tile::kColumns;
  static constexpr int kPasses = Tile::kDepth / kStep;
  static_assert(Tile::kThreads % Tile::kColumns == 0 && Tile::kDepth % kStep == 0, "threads share out the slice");

  PYALEXNET_INLINE static int term(int pass) { return threadIdx.x / Tile::kColumns + pass * kStep; }
  PYALEXNET_INLINE static int column() { return threadIdx.x % Tile::kColumns; }

  const int64_t pitch_;
  const float* next_;
  int least_terms_;  // that must be left if the thread's first word is to be there
  float staged_[kPasses];
};

// A quad each, of those threads for which there is one.
template <class Tile>
class StagedRightWords<Tile, Access::kInside> {
 public:
  PYALEXNET_INLINE StagedRightWords(const RightMatrix& matrix, int64_t first_column, const int& columns,
                                    int64_t first_term)
      : matrix_(matrix), next_(matrix.data + (first_term + term()) * matrix.pitch + first_column + column()) {
    least_terms_ = column() < columns ? term() + 1 : INT32_MAX;
  }

  PYALEXNET_INLINE void fetch(int terms) {
    staged_ = takes_one() && terms >= least_terms_ ? load<4>(next_) : broadcast<4>(0.0f);
    next_ += Tile::kDepth * static_cast<int>(matrix_.pitch);
  }

  PYALEXNET_INLINE void commit(float* slice) const {
    if (takes_one()) store(slice + Tile::right_place(term(), column()), staged_);
  }

 private:
  static constexpr int kQuads = Tile::kColumns / 4;
  static_assert(Tile::kDepth * kQuads <= Tile::kThreads, "a thread takes one quad at most");

  PYALEXNET_INLINE static int term() { return threadIdx.x / kQuads; }
  PYALEXNET_INLINE static int column() { return threadIdx.x % kQuads * 4; }
  PYALEXNET_INLINE static bool takes_one() { return term() < Tile::kDepth; }

  const RightMatrix& matrix_;
  const float* next_;
  int least_terms_;  // that must be left if the thread's quad is to be there
  Vec<4> staged_;
};

}  // namespace pyalexnet
