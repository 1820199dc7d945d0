// Left slices for CPU cores where no patch reaches beyond the input (Access::kInside): nothing is copied, and a register
// tile reads each of its rows where it is. AlexNet's conv1 has few columns, for which copying took a third of the time.
#pragma once

#include <algorithm>

#include "device/copied_slices.cuh"

namespace pyalexnet {

// Whether patches are so close that those of neighbouring pixels share cache lines, and of so many neighbours in either
// direction that a loop over them is worth its beginning. Where they lie apart, as the rows of a fully connected layer
// do, each term comes from lines of its own, and copying is faster: fc6 takes a fifth longer in place.
inline bool pays_in_place(const Patches& patches) {
  constexpr int kLeastTerms = 16;
  return patches.is_inside() && patches.stride * patches.pixel_stride <= kLineFloats &&
         std::min(patches.run, patches.out_width) >= kLeastTerms;
}

// Rows of the patch matrix.
template <class Tile>
class PatchRowsInPlace {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kRowMajor;
  struct Shared {
    const float* patches[Tile::kRows];  // their first elements; behind the last one, that one again
  };

  static bool fits(const Patches& patches, const RightMatrix&) { return pays_in_place(patches); }

  PYALEXNET_INLINE PatchRowsInPlace(const Patches& patches, int group, int64_t first_row, int rows,
                                    int64_t first_column, Shared& shared)
      : patches_(patches), shared_(shared), next_tap_(patches, static_cast<int>(first_column)) {
    PixelCursor pixel(patches, group, first_row);
    for (int r = 0; r < Tile::kRows; ++r) {
      const PatchOrigin origin = pixel.origin(patches);
      shared.patches[r] = patches.input + origin.image + offset_in_patch(patches, origin.y, origin.x, 0);
      if (r + 1 < rows) pixel.advance(patches, 1);
    }
  }

  PYALEXNET_INLINE void fetch(int terms) { terms_ = terms; }

  PYALEXNET_INLINE void commit(float*) {
    tap_ = next_tap_;
    next_tap_.advance(patches_, terms_);
  }

  // tile += the rows from `row` on times the panel, along the slice's terms.
  PYALEXNET_INLINE void multiply(RegisterTile<Tile>& tile, const float*, int row, RightPanel panel) const {
    LeftRows<Tile> rows;
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) rows.at[i] = shared_.patches[row + i];
    TapCursor tap = tap_;
    for (int done = 0, count = 0; done < terms_; done += count) {
      count = std::min(patches_.run - tap.place, terms_ - done);
      const RightPanel right{panel.at + done * panel.step, panel.step};
      multiply_add(tile, rows, offset_in_patch(patches_, tap.y, tap.x, tap.place), 1, right, count);
      tap.advance(patches_, count);
    }
  }

 private:
  const Patches& patches_;
  const Shared& shared_;
  TapCursor tap_, next_tap_;
  int terms_;
};

// Columns of the patch matrix as rows, whose terms are pixels. Those that do not fill a register tile, and the one of ones
// behind them, are copied.
template <class Tile>
class PatchColumnsInPlace {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  struct Shared {
    const float* columns[Tile::kRows];  // of the matrix's first pixel
  };

  static bool fits(const Patches& patches, const RightMatrix&) { return pays_in_place(patches); }

  PYALEXNET_INLINE PatchColumnsInPlace(const Patches& patches, int group, int64_t first_column, int rows,
                                       int64_t first_pixel, Shared& shared)
      : patches_(patches), shared_(shared), pixel_(patches, group, first_pixel), next_pixel_(pixel_) {
    const int columns = static_cast<int>(std::min<int64_t>(rows, patches.columns() - first_column));
    whole_ = columns / Tile::kThreadRows * Tile::kThreadRows;
    rest_ = columns - whole_;
    has_ones_ = rows > columns;
    TapCursor tap(patches, static_cast<int>(first_column));
    for (int c = 0; c < columns; ++c, tap.advance(patches, 1)) {
      shared.columns[c] = patches.input + offset_in_patch(patches, tap.y, tap.x, tap.place);
    }
  }

  PYALEXNET_INLINE void fetch(int terms) { terms_ = terms; }

  PYALEXNET_INLINE void commit(float* slice) {
    pixel_ = next_pixel_;
    next_pixel_.advance(patches_, terms_);
    PixelCursor pixel = pixel_;
    for (int k = 0; k < terms_; ++k, pixel.advance(patches_, 1)) {
      float* const to = slice + k * kPitch + whole_;
      for (int r = 0; r < rest_; ++r) to[r] = shared_.columns[whole_ + r][offset_of(pixel)];
      if (has_ones_) to[rest_] = 1.0f;
    }
  }

  PYALEXNET_INLINE void multiply(RegisterTile<Tile>& tile, const float* slice, int row, RightPanel panel) const {
    if (row >= whole_) return multiply_add<Tile, kOrder>(tile, slice + row, panel, terms_);
    LeftRows<Tile> rows;
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) rows.at[i] = shared_.columns[row + i];
    PixelCursor pixel = pixel_;
    for (int done = 0, count = 0; done < terms_; done += count, pixel.advance(patches_, count)) {
      count = std::min(patches_.out_width - pixel.out_x(), terms_ - done);
      const RightPanel right{panel.at + done * panel.step, panel.step};
      multiply_add(tile, rows, offset_of(pixel), patches_.stride * patches_.pixel_stride, right, count);
    }
  }

 private:
  static constexpr int kPitch = Tile::left_pitch(kOrder);

  PYALEXNET_INLINE int64_t offset_of(const PixelCursor& pixel) const {
    return pixel.image() + pixel.out_y() * patches_.stride * patches_.row_stride +
           pixel.out_x() * patches_.stride * patches_.pixel_stride;
  }

  const Patches& patches_;
  const Shared& shared_;
  PixelCursor pixel_, next_pixel_;
  int whole_, rest_;  // columns in whole register tiles, and the others
  bool has_ones_;
  int terms_;
};

}  // namespace pyalexnet
