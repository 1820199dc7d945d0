// The patch matrix of a convolution, and the matrix that it is multiplied with.
//
// The patch matrix P has a row for each output pixel (image, output row, output column) and a column for each input
// element that a pixel sees:
//
//   P[(n, oy, ox), (ky, kx, c)] = x[n, oy stride + ky - padding, ox stride + kx - padding, c], 0 outside the image
//
// It is never stored: what is needed of it is gathered from the input. (ky, kx) is a column's tap; the columns of one
// tap are a run, contiguous in the input. Where a kernel row is one run, as without padding, it counts as one tap.
//
// Kernels count padded columns: each run is padded to a multiple of the tile's kRunMultiple, so that vectors never straddle
// two runs. The matrix on the right of P has no rows for the columns in between, and the result of P^T has none either.
#pragma once

#include <algorithm>
#include <cstdlib>

#include "device/tile.cuh"

namespace pyalexnet {

// Terms of a sum that one block adds up at most, so that 32 bits count them.
inline constexpr int kMaxTerms = 1 << 30;

// What a block may rely on when it reads its matrices.
enum class Access {
  kAny,      // nothing
  kVectors,  // quads are there in one 16-byte access or not at all, but for the last one of a run; see reads_vectors
  kQuads,    // the last one of a run too, and a bit for each tap fits into a word; see reads_quads
  kInside,   // no patch reaches beyond the input, nor needs rounding; see is_inside and reads_inside
};

// By how many columns of the patch matrix, and by how many rows, a thread goes on at a time.
struct ReadSteps {
  int columns, rows;
};

struct Patches {
  const float* input;
  int64_t group_stride, image_stride, row_stride, pixel_stride;  // from one to the next, in floats
  int height, width;                                             // of the input
  int out_height, out_width;
  int kernel_height, kernel_width;
  int run, padded_run;  // the same until a tile pads it
  int stride;
  int padding_top, padding_left;  // may be negative
  int64_t pixels;                 // rows of the matrix
  bool aligned;                   // vectors_aligned for each run
  Precision precision;            // to which cores round what they copy; a GPU's tile has its own

  // Of the matrix: input elements that a pixel sees.
  __host__ __device__ int columns() const { return kernel_height * kernel_width * run; }
  __host__ __device__ int padded_columns() const { return kernel_height * kernel_width * padded_run; }

  // The same with runs that are padded to a multiple of so many floats.
  Patches padded_to(int multiple) const {
    Patches result = *this;
    result.padded_run = (run + multiple - 1) / multiple * multiple;
    return result;
  }

  // Whether blocks that take such steps may read it with Access::kVectors: a step reaches into the next run, or the next
  // row of pixels, at most, and 32 bits hold the offsets within an image.
  bool reads_vectors(ReadSteps steps) const {
    return aligned && padded_run >= steps.columns && out_width >= steps.rows &&
           height * std::abs(row_stride) + width * std::abs(pixel_stride) <= INT32_MAX;
  }

  // Whether it is a matrix in memory, whose rows lie pixel_stride apart.
  PYALEXNET_INLINE bool is_matrix() const {
    return kernel_height == 1 && kernel_width == 1 && height == 1 && out_height == 1 && stride == 1 &&
           padding_top == 0 && padding_left == 0 && image_stride == out_width * pixel_stride;
  }

  // Whether no patch reaches beyond the input, and nothing is to be rounded.
  bool is_inside() const {
    return padding_top == 0 && padding_left == 0 && precision == Precision::kFp32 &&
           int64_t{out_height - 1} * stride + kernel_height <= height &&
           int64_t{out_width - 1} * stride + kernel_width <= width;
  }

  // Whether blocks may read it with Access::kInside: as reads_vectors but for alignment, a kernel row is one run, and 32
  // bits hold all offsets.
  bool reads_inside(ReadSteps steps) const {
    return is_inside() && run == padded_run && kernel_width == 1 && run >= steps.columns && out_width >= steps.rows &&
           offsets_fit();
  }

  // Whether Access::kQuads will do: runs are not padded, a word has a bit for each tap and for the one behind the last,
  // and 32 bits hold all offsets.
  bool reads_quads(ReadSteps steps) const {
    return reads_vectors(steps) && run == padded_run && kernel_height * kernel_width < 32 && offsets_fit();
  }

 private:
  // Whether 32 bits hold all offsets within the input and its padding.
  bool offsets_fit() const {
    const int64_t images = pixels / (int64_t{out_height} * out_width) + 1;
    const int64_t down = int64_t{out_height} * stride + std::abs(padding_top) + kernel_height;
    const int64_t across = int64_t{out_width} * stride + std::abs(padding_left) + kernel_width;
    return images * std::abs(image_stride) + down * std::abs(row_stride) + across * std::abs(pixel_stride) <= INT32_MAX;
  }
};

// How far from the patch's first element, in floats, the input element is that belongs to a tap's place.
PYALEXNET_INLINE int64_t offset_in_patch(const Patches& p, int tap_y, int tap_x, int place) {
  return tap_y * p.row_stride + tap_x * p.pixel_stride + place;
}

// Where a row of the patch matrix has its patch: the input pixel under the kernel's first tap.
struct alignas(16) PatchOrigin {
  int64_t image;  // floats from the input's start: an address that has been in shared memory costs a GPU more to use
  int y, x;       // y is kNowhere behind the last row

  static constexpr int kNowhere = INT32_MIN;

  // The run of a tap, nullptr where it is padding.
  template <Access access = Access::kAny>
  PYALEXNET_INLINE const float* run(const Patches& p, int tap_y, int tap_x) const {
    const int row = y + tap_y, column = x + tap_x;
    const bool inside = static_cast<unsigned>(row) < static_cast<unsigned>(p.height) &&
                        static_cast<unsigned>(column) < static_cast<unsigned>(p.width);
    if (!inside) return nullptr;
    if constexpr (access == Access::kVectors) {
      return p.input + image + (row * static_cast<int>(p.row_stride) + column * static_cast<int>(p.pixel_stride));
    } else {
      return p.input + image + row * p.row_stride + column * p.pixel_stride;
    }
  }
};

// The output pixel that a row of the patch matrix belongs to, advancing along the rows.
class PixelCursor {
 public:
  PYALEXNET_INLINE PixelCursor(const Patches& p, int group, int64_t pixel) {
    const int64_t row = pixel / p.out_width;
    out_x_ = static_cast<int>(pixel % p.out_width);
    out_y_ = static_cast<int>(row % p.out_height);
    image_ = group * p.group_stride + row / p.out_height * p.image_stride;
    left_ = static_cast<int>(p.pixels - pixel < kMaxTerms ? p.pixels - pixel : kMaxTerms);
  }

  template <Access access = Access::kAny>
  PYALEXNET_INLINE void advance(const Patches& p, int count) {
    left_ -= count;
    out_x_ += count;
    if constexpr (access == Access::kVectors) {
      if (out_x_ >= p.out_width) next_row(p);
    } else {
      while (out_x_ >= p.out_width) next_row(p);
    }
  }

  // The pixel's image, in floats from the input's start.
  PYALEXNET_INLINE int64_t image() const { return image_; }
  PYALEXNET_INLINE int out_y() const { return out_y_; }
  PYALEXNET_INLINE int out_x() const { return out_x_; }

  PYALEXNET_INLINE PatchOrigin origin(const Patches& p) const {
    const int y = left_ > 0 ? out_y_ * p.stride - p.padding_top : PatchOrigin::kNowhere;
    return {image_, y, out_x_ * p.stride - p.padding_left};
  }

 private:
  PYALEXNET_INLINE void next_row(const Patches& p) {
    out_x_ -= p.out_width;
    if (++out_y_ == p.out_height) out_y_ = 0, image_ += p.image_stride;
  }

  int64_t image_;
  int out_y_, out_x_;
  int left_;  // pixels up to the matrix's end, as far as a block can come
};

// A padded column of the patch matrix, advancing along them: its tap, and its place in the tap's run.
struct alignas(16) TapCursor {
  int y, x, place;

  TapCursor() = default;
  PYALEXNET_INLINE TapCursor(const Patches& p, int column)
      : y(column / p.padded_run / p.kernel_width),
        x(column / p.padded_run % p.kernel_width),
        place(column % p.padded_run) {}

  template <Access access = Access::kAny>
  PYALEXNET_INLINE void advance(const Patches& p, int count) {
    place += count;
    if constexpr (access == Access::kVectors) {
      if (place >= p.padded_run) next_tap(p);
    } else {
      while (place >= p.padded_run) next_tap(p);
    }
  }

 private:
  PYALEXNET_INLINE void next_tap(const Patches& p) {
    place -= p.padded_run;
    if (++x == p.kernel_width) x = 0, ++y;
  }
};

// From padded columns to rows of a matrix that has a row for each column.
struct PaddedRuns {
  int run, padded_run;

  // -1 where there is none.
  PYALEXNET_INLINE int64_t row(int64_t padded_column) const {
    if (run == padded_run) return padded_column;
    const int tap = static_cast<int>(padded_column) / padded_run, place = static_cast<int>(padded_column) % padded_run;
    return place < run ? tap * run + place : -1;
  }
};

// Each is a row.
inline constexpr PaddedRuns kUnpadded{kMaxTerms, kMaxTerms};

// The right factor of a product: row-major, with a row for each term that is no padding.
struct RightMatrix {
  const float* data;
  int64_t pitch, group_stride;
  int64_t terms;    // padding counted
  PaddedRuns runs;  // of the terms
  bool aligned;
  Precision precision;  // as of Patches

  // As Patches::reads_vectors, for slices of `depth` terms; offsets are one slice ahead.
  bool reads_vectors(int depth) const {
    return aligned && runs.padded_run >= depth && (terms + depth) * pitch <= INT32_MAX;
  }
  bool reads_quads(int depth) const { return reads_vectors(depth) && runs.run == runs.padded_run; }
};

}  // namespace pyalexnet
