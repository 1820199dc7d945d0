// Slices for GPUs where all quads are read in one access or not at all (Access::kQuads): the slices of
// device/staged_slices.cuh with what they work out for each quad worked out once. What is left in the loop over slices
// has no branch, so that it is scheduled among the multiply-adds.
#pragma once

#include "device/patches.cuh"
#include "device/quad_places.cuh"

namespace pyalexnet {

// Left slices whose rows are rows of the patch matrix. What a thread knows of a row of its own is where its patch is and, a
// bit each, which taps see the image.
template <class Tile>
class StagedPatchRowQuads : RowQuads<Tile> {
  using Places = RowQuads<Tile>;
  using Places::kPasses;
  using Places::quad;
  using Places::row;

 public:
  using Places::kOrder;
  static constexpr ReadSteps kSteps{Tile::kDepth, 1};
  struct Shared {};

  PYALEXNET_INLINE StagedPatchRowQuads(const Patches& patches, int group, int64_t first_row, int rows,
                                       int64_t first_column, Shared&)
      : patches_(patches) {
    const PixelCursor first(patches, group, first_row);
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const int x = first.out_x() + row(i), y = first.out_y() + x / patches.out_width;
      const int image = static_cast<int>(first.image() + y / patches.out_height * patches.image_stride);
      place_row(i, image, y % patches.out_height, x % patches.out_width);
      if (row(i) >= rows) taps_seen_[i] = 0;
    }
    const TapCursor tap(patches, static_cast<int>(first_column) + quad() * 4);
    tap_x_ = tap.x, place_ = tap.place;
    tap_bit_ = 1u << (tap.y * patches.kernel_width + tap.x);
    tap_offset_ =
        tap.y * static_cast<int>(patches.row_stride) + tap.x * static_cast<int>(patches.pixel_stride) + tap.place;
  }

  PYALEXNET_INLINE void fetch(int) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      staged_[i] = is_seen(i) ? load<4>(from(i)) : broadcast<4>(0.0f);
    }
    advance();
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 protected:
  PYALEXNET_INLINE bool is_seen(int pass) const { return taps_seen_[pass] & tap_bit_; }
  PYALEXNET_INLINE const float* from(int pass) const { return patches_.input + (offsets_[pass] + tap_offset_); }
  PYALEXNET_INLINE void advance() {
    place_ += Tile::kDepth, tap_offset_ += Tile::kDepth;
    next_tap();
  }

 private:
  // Pass i takes the patch of this output pixel.
  PYALEXNET_INLINE void place_row(int i, int image, int out_y, int out_x) {
    const Patches& p = patches_;
    const int y = out_y * p.stride - p.padding_top, x = out_x * p.stride - p.padding_left;
    offsets_[i] = image + y * static_cast<int>(p.row_stride) + x * static_cast<int>(p.pixel_stride);
    taps_seen_[i] = 0;
    const unsigned row_of_taps = taps_inside(p.width - x, p.kernel_width) & ~taps_inside(-x, p.kernel_width);
    for (int tap_y = 0; tap_y < p.kernel_height; ++tap_y) {
      const bool inside = static_cast<unsigned>(y + tap_y) < static_cast<unsigned>(p.height);
      if (inside) taps_seen_[i] |= row_of_taps << (tap_y * p.kernel_width);
    }
  }

  // A bit for each of the first `count` taps, at least none and at most `most`.
  PYALEXNET_INLINE static unsigned taps_inside(int count, int most) {
    const int taken = count < 0 ? 0 : count < most ? count : most;
    return (1u << taken) - 1;
  }

  PYALEXNET_INLINE void next_tap() {
    const int pixel_stride = static_cast<int>(patches_.pixel_stride);
    if (place_ >= patches_.run) {
      place_ -= patches_.run, tap_offset_ += pixel_stride - patches_.run;
      ++tap_x_, tap_bit_ <<= 1;
    }
    if (tap_x_ == patches_.kernel_width) {
      tap_x_ = 0, tap_offset_ += static_cast<int>(patches_.row_stride) - patches_.kernel_width * pixel_stride;
    }
  }

  const Patches& patches_;
  int offsets_[kPasses];  // of the row's patch, in floats from the input's start
  unsigned taps_seen_[kPasses];
  int tap_x_, place_, tap_offset_;
  unsigned tap_bit_;
  Vec<4> staged_[kPasses];
};

// Left slices whose rows are columns of the patch matrix. A thread's tap stays the same, so that it follows the pixel that
// its tap sees.
template <class Tile>
class StagedPatchColumnQuads : ColumnQuads<Tile> {
  using Places = ColumnQuads<Tile>;
  using Places::kPasses;
  using Places::kStep;
  using Places::quad;
  using Places::term;

 public:
  using Places::kOrder;
  static constexpr ReadSteps kSteps{1, kStep};
  struct Shared {};

  PYALEXNET_INLINE StagedPatchColumnQuads(const Patches& patches, int group, int64_t first_column, int,
                                          int64_t first_pixel, Shared&)
      : patches_(patches) {
    const PixelCursor pixel(patches, group, first_pixel + term(0));
    const TapCursor tap(patches, static_cast<int>(first_column) + quad() * 4);
    const int top = tap.y - patches.padding_top, left = tap.x - patches.padding_left;
    y_ = pixel.out_y() * patches.stride + top, x_ = pixel.out_x() * patches.stride + left;
    y_end_ = patches.out_height * patches.stride + top, x_end_ = patches.out_width * patches.stride + left;
    image_ = static_cast<int>(pixel.image()) + tap.place;
    // The row behind the last one holds ones: its threads see no pixel, and what they take instead is one. It is the
    // first of its quad.
    const bool ones = tap.y >= patches.kernel_height;
    height_ = ones ? 0 : patches.height;
    unseen_ = ones ? 1.0f : 0.0f;
  }

  PYALEXNET_INLINE void fetch(int terms) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const bool there = term(i) < terms;
      const bool seen = is_seen();
      const int offset = this->offset();
      staged_[i] = broadcast<4>(0.0f);
      staged_[i].set(0, there ? unseen_ : 0.0f);
      if (there && seen) staged_[i] = load<4>(patches_.input + offset);
      advance();
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 protected:
  PYALEXNET_INLINE bool is_seen() const {
    return static_cast<unsigned>(y_) < static_cast<unsigned>(height_) &&
           static_cast<unsigned>(x_) < static_cast<unsigned>(patches_.width);
  }
  PYALEXNET_INLINE int offset() const {
    return image_ + y_ * static_cast<int>(patches_.row_stride) + x_ * static_cast<int>(patches_.pixel_stride);
  }
  PYALEXNET_INLINE const float* from() const { return patches_.input + offset(); }
  PYALEXNET_INLINE float unseen() const { return unseen_; }
  PYALEXNET_INLINE void advance() {
    x_ += kStep * patches_.stride;
    if (x_ >= x_end_) x_ -= patches_.out_width * patches_.stride, y_ += patches_.stride;
    if (y_ >= y_end_) y_ -= patches_.out_height * patches_.stride, image_ += static_cast<int>(patches_.image_stride);
  }

 private:
  const Patches& patches_;
  int image_;          // the pixel's, at the tap's place in its run, in floats from the input's start
  int y_, x_;          // the pixel that the tap sees
  int y_end_, x_end_;  // behind the last ones that it may see
  int height_;
  float unseen_;
  Vec<4> staged_[kPasses];
};

// Slices of the right matrix.
template <class Tile>
class StagedRightQuads : RightQuads<Tile> {
  using Places = RightQuads<Tile>;
  using Places::column;
  using Places::kPasses;
  using Places::kStep;
  using Places::term;

 public:
  PYALEXNET_INLINE StagedRightQuads(const RightMatrix& matrix, int64_t first_column, const int& columns,
                                    int64_t first_term)
      : matrix_(matrix) {
    const int64_t first = first_term + term(0);
    next_ = static_cast<int>(first * matrix.pitch + first_column + column());
    least_terms_ = column() < columns ? term(0) + 1 : INT32_MAX / 2;
  }

  PYALEXNET_INLINE void fetch(int terms) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      staged_[i] = is_there(i, terms) ? load<4>(from(i)) : broadcast<4>(0.0f);
    }
    advance();
  }

  PYALEXNET_INLINE void commit(float* slice) const { Places::commit(slice, staged_); }

 protected:
  PYALEXNET_INLINE bool is_there(int pass, int terms) const { return terms >= least_terms_ + pass * kStep; }
  PYALEXNET_INLINE const float* from(int pass) const {
    return matrix_.data + (next_ + pass * kStep * static_cast<int>(matrix_.pitch));
  }
  PYALEXNET_INLINE void advance() { next_ += Tile::kDepth * static_cast<int>(matrix_.pitch); }

 private:
  const RightMatrix& matrix_;
  int next_;         // floats from the matrix's start
  int least_terms_;  // that must be left if the thread's first quad is to be there
  Vec<4> staged_[kPasses];
};

}  // namespace pyalexnet
