// Slices for CPU cores: a block is one thread, which copies whole runs from memory to the slice in commit().
#pragma once

#include <algorithm>

#include "device/mma.cuh"
#include "device/patches.cuh"

namespace pyalexnet {

// Whole vectors, the last one overlapping the one before, where there are enough floats for one.
PYALEXNET_INLINE void copy_floats(float* to, const float* from, int count) {
  constexpr int N = kVectorFloats;
  if (count < N) {
    for (int i = 0; i < count; ++i) to[i] = from[i];
    return;
  }
  for (int i = 0; i < count - N; i += N) store(to + i, load<N>(from + i));
  store(to + count - N, load<N>(from + count - N));
}

PYALEXNET_INLINE void clear_floats(float* to, int count) {
  constexpr int N = kVectorFloats;
  if (count < N) {
    for (int i = 0; i < count; ++i) to[i] = 0.0f;
    return;
  }
  for (int i = 0; i < count - N; i += N) store(to + i, broadcast<N>(0.0f));
  store(to + count - N, broadcast<N>(0.0f));
}

// Rows lie pages apart, and each is too short for the processor to see that it is read on and on: while one is copied,
// another one so many rows on is asked for, where it is this long.
inline constexpr int kRowsAhead = 4, kLongRun = 64;
inline constexpr int kLineFloats = 64 / sizeof(float);

PYALEXNET_INLINE void ask_for(const float* from, int count) {
  for (int i = 0; i < count; i += kLineFloats) ask_for(from + i);
}
PYALEXNET_INLINE void ask_for_later(const float* from, int count) {
  for (int i = 0; i < count; i += kLineFloats) ask_for_later(from + i);
}

// A slice in memory: so many rows of so many floats, `pitch` apart. None where it is not worth asking for: what several
// taps see, and matrices that are not large, are in the caches.
struct SliceInMemory {
  const float* first = nullptr;
  int64_t pitch = 0;
  int rows = 0, floats = 0;
};

// Whether slices of a matrix of so many floats are worth asking for: where two of its size outgrow the caches, little of it is
// left there from the last time.
PYALEXNET_INLINE bool is_large(int64_t floats) {
  return outgrow_caches(2 * floats);
}
// The same of the left matrix of a product of so many groups.
PYALEXNET_INLINE bool is_large_matrix(const Patches& patches, int groups) {
  return patches.is_matrix() && is_large(groups * patches.pixels * patches.run);
}

// Asks for a slice that is copied soon, in equal shares beside register tiles of another one: copying it would wait for
// memory longer than it takes.
class SliceAhead {
 public:
  PYALEXNET_INLINE SliceAhead(const SliceInMemory& slice, int tiles)
      : slice_(slice), share_(ceil_div(slice.rows, tiles)) {}

  PYALEXNET_INLINE void ask() {
    const int end = next_ + share_ < slice_.rows ? next_ + share_ : slice_.rows;
    for (; next_ < end; ++next_) ask_for_later(slice_.first + next_ * slice_.pitch, slice_.floats);
  }

 private:
  const SliceInMemory slice_;
  const int share_;
  int next_ = 0;
};

// Rounds what has been copied. tf32x3's two parts together are one float, so that one product does for three.
inline void round_floats(float* floats, int count, Precision precision) {
  if (precision == Precision::kTf32) {
    for (int i = 0; i < count; ++i) floats[i] = round_to_tf32(floats[i]);
  } else if (precision == Precision::kBf16) {
    for (int i = 0; i < count; ++i) floats[i] = round_to_bf16(floats[i]);
  } else if (precision == Precision::kTf32x3) {
    for (int i = 0; i < count; ++i) {
      const float high = round_to_tf32(floats[i]);
      floats[i] = high + round_to_tf32(floats[i] - high);
    }
  }
}

// `columns` columns from `tap` on of the patch matrix's rows at `origins`, to rows kPitch apart. Returns how many there
// were; tap is behind them then. Runs are not padded here.
template <int kPitch>
PYALEXNET_INLINE int copy_patches(float* to, const Patches& patches, const PatchOrigin* origins, int rows,
                                  TapCursor& tap, int columns) {
  int done = 0;
  while (done < columns && tap.y < patches.kernel_height) {
    const int count = std::min(patches.run - tap.place, columns - done);
    for (int r = 0; r < rows; ++r) {
      if (count >= kLongRun && r + kRowsAhead < rows) {
        const float* ahead = origins[r + kRowsAhead].run(patches, tap.y, tap.x);
        if (ahead) ask_for(ahead + tap.place, count);
      }
      const float* run = origins[r].run(patches, tap.y, tap.x);
      if (run) {
        copy_floats(to + r * kPitch + done, run + tap.place, count);
        round_floats(to + r * kPitch + done, count, patches.precision);
      } else {
        clear_floats(to + r * kPitch + done, count);
      }
    }
    done += count;
    tap.advance(patches, count);
  }
  return done;
}

template <class Tile>
class CopiedPatchRows {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kRowMajor;
  struct Shared {
    PatchOrigin origins[Tile::kRows];
  };

  PYALEXNET_INLINE CopiedPatchRows(const Patches& patches, int group, int64_t first_row, int rows, int64_t first_column,
                                   Shared& shared)
      : patches_(patches), shared_(shared), tap_(patches, static_cast<int>(first_column)), rows_(rows) {
    PixelCursor pixel(patches, group, first_row);
    for (int r = 0; r < rows_; ++r, pixel.advance(patches, 1)) shared.origins[r] = pixel.origin(patches);
  }

  PYALEXNET_INLINE void fetch(int terms) { terms_ = terms; }

  PYALEXNET_INLINE void commit(float* slice) {
    copy_patches<kPitch>(slice, patches_, shared_.origins, rows_, tap_, terms_);
  }

  // Where a slice of these rows and terms is, of a product of so many groups.
  static PYALEXNET_INLINE SliceInMemory slice_at(const Patches& patches, int groups, int group, int64_t first_row,
                                                 int rows, int64_t first_column, int terms) {
    if (!is_large_matrix(patches, groups)) return {};
    const int64_t place = group * patches.group_stride + first_row * patches.pixel_stride + first_column;
    return {patches.input + place, patches.pixel_stride, rows, terms};
  }

  // tile += the slice's rows from `row` on times the panel.
  PYALEXNET_INLINE void multiply(RegisterTile<Tile>& tile, const float* slice, int row, RightPanel panel) const {
    multiply_add<Tile, kOrder>(tile, slice + row * kPitch, panel, terms_);
  }

 private:
  static constexpr int kPitch = Tile::left_pitch(kOrder);
  const Patches& patches_;
  const Shared& shared_;
  TapCursor tap_;
  const int rows_;
  int terms_;
};

template <class Tile>
class CopiedPatchColumns {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  struct Shared {
    PatchOrigin origins[Tile::kDepth];
  };

  PYALEXNET_INLINE CopiedPatchColumns(const Patches& patches, int group, int64_t first_column, int, int64_t first_pixel,
                                      Shared& shared)
      : patches_(patches),
        shared_(shared),
        first_tap_(patches, static_cast<int>(first_column)),
        pixel_(patches, group, first_pixel) {}

  PYALEXNET_INLINE void fetch(int terms) { terms_ = terms; }

  PYALEXNET_INLINE void commit(float* slice) {
    for (int k = 0; k < terms_; ++k, pixel_.advance(patches_, 1)) shared_.origins[k] = pixel_.origin(patches_);
    TapCursor tap = first_tap_;
    const int columns = copy_patches<kPitch>(slice, patches_, shared_.origins, terms_, tap, Tile::kRows);
    if (columns == Tile::kRows) return;
    for (int k = 0; k < terms_; ++k) slice[k * kPitch + columns] = 1.0f;
  }

  static PYALEXNET_INLINE SliceInMemory slice_at(const Patches& patches, int groups, int group, int64_t first_column,
                                                 int columns, int64_t first_pixel, int terms) {
    if (!is_large_matrix(patches, groups)) return {};
    const int64_t place = group * patches.group_stride + first_pixel * patches.pixel_stride + first_column;
    return {patches.input + place, patches.pixel_stride, terms, columns};
  }

  PYALEXNET_INLINE void multiply(RegisterTile<Tile>& tile, const float* slice, int row, RightPanel panel) const {
    multiply_add<Tile, kOrder>(tile, slice + row, panel, terms_);
  }

 private:
  static constexpr int kPitch = Tile::left_pitch(kOrder);
  const Patches& patches_;
  Shared& shared_;
  const TapCursor first_tap_;
  PixelCursor pixel_;
  int terms_;
};

// Slices of the right matrix, cut into panels of kPanel columns.
template <class Tile>
class CopiedRightRows {
 public:
  PYALEXNET_INLINE CopiedRightRows(const RightMatrix& matrix, int64_t first_column, int columns, int64_t first_term)
      : next_(matrix.data + first_term * matrix.pitch + first_column),
        pitch_(matrix.pitch),
        columns_(columns),
        precision_(matrix.precision) {}

  PYALEXNET_INLINE void fetch(int terms) { terms_ = terms; }

  PYALEXNET_INLINE void commit(float* slice) {
    for (int k = 0; k < terms_; ++k, next_ += pitch_) {
      if (k + kRowsAhead < terms_) ask_for(next_ + kRowsAhead * pitch_, columns_);
      for (int n = 0; n < columns_; n += Tile::kPanel) {
        float* to = slice + n * Tile::kDepth + k * Tile::kPanel;
        const int count = std::min(Tile::kPanel, columns_ - n);
        copy_floats(to, next_ + n, count);
        round_floats(to, count, precision_);
      }
    }
  }

  static PYALEXNET_INLINE SliceInMemory slice_at(const RightMatrix& matrix, int groups, int group, int64_t first_column,
                                                 int columns, int64_t first_term, int terms) {
    if (!is_large(groups == 1 ? matrix.terms * matrix.pitch : groups * matrix.group_stride)) return {};
    const int64_t place = group * matrix.group_stride + first_term * matrix.pitch + first_column;
    return {matrix.data + place, matrix.pitch, terms, columns};
  }

  static PYALEXNET_INLINE RightPanel panel(const float* slice, int column, int) {
    return {slice + column * Tile::kDepth, Tile::kPanel};
  }

 private:
  const float* next_;
  const int64_t pitch_;
  const int columns_;
  const Precision precision_;
  int terms_;
};

// Slices of the right matrix where they are, for few rows: an element is used so few times that copying it would be a
// good part of the work. Only a last panel that is not full is copied, so that nothing is read behind a row.
template <class Tile>
class RightRowsInPlace {
 public:
  PYALEXNET_INLINE RightRowsInPlace(const RightMatrix& matrix, int64_t first_column, int columns, int64_t first_term)
      : next_(matrix.data + first_term * matrix.pitch + first_column),
        pitch_(matrix.pitch),
        whole_(columns / Tile::kPanel * Tile::kPanel),
        rest_(columns - whole_) {}

  PYALEXNET_INLINE void fetch(int terms) { terms_ = terms; }

  PYALEXNET_INLINE void commit(float* slice) {
    current_ = next_;
    next_ += terms_ * pitch_;
    if (rest_ == 0) return;
    for (int k = 0; k < terms_; ++k) copy_floats(slice + k * Tile::kPanel, current_ + k * pitch_ + whole_, rest_);
  }

  // Asks for what comes a KiB later, in the next terms where this is near the rows' end: the processor's own
  // prefetching follows rows of the matrix to the end of a page at most.
  PYALEXNET_INLINE RightPanel panel(const float* slice, int column, int terms) const {
    if (column == whole_) return {slice, Tile::kPanel};
    const float* const at = current_ + column;
    const bool in_row = column + kAhead < whole_;
    const float* const ahead = in_row ? at + kAhead : next_ + (column + kAhead - whole_);
    for (int k = 0; k < terms; ++k) ask_for(ahead + k * pitch_, Tile::kPanel);
    return {at, pitch_};
  }

 private:
  static constexpr int kAhead = ceil_div(256, Tile::kPanel) * Tile::kPanel;
  const float *next_, *current_;
  const int64_t pitch_;
  const int whole_, rest_;
  int terms_;
};

}  // namespace pyalexnet
