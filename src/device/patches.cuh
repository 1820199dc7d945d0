// The patch matrix of a convolution, and how a block brings slices of matrices into __shared__ memory.
//
// The patch matrix has a row for each output pixel (image, output row, output column) and a column for each input
// element that the pixel sees (kernel row, kernel column, channel). It is never stored: its rows are gathered from
// the input as they are needed. A column's tap is its place in the kernel; the `run` columns of one tap are
// contiguous in the input. In slots, a tap takes run_slots >= run columns, so that vectors never straddle two taps.
//
// Staged loaders (GPU) hold the next slice in registers while the current one is computed with: fetch() reads device
// memory, commit() writes shared memory. Direct loaders (CPU cores) copy whole runs from memory to the slice in
// commit().
#pragma once

#include <algorithm>
#include <cstdlib>

#include "device/tile.cuh"

namespace pyalexnet {

// Terms of a sum that one block adds up at most, so that 32 bits count them.
inline constexpr int kMaxTerms = 1 << 30;

// run_slots for a run.
inline int slots_of(int64_t run) {
  return static_cast<int>((run + kSlotMultiple - 1) / kSlotMultiple * kSlotMultiple);
}

// What a block may rely on when it reads its matrices.
enum class Access {
  kAny,      // nothing
  kVectors,  // quads are there in one 16-byte access or not at all, but for the last one of a run; see reads_vectors
};

struct Patches {
  const float* input;
  int64_t group_stride, image_stride, row_stride, pixel_stride;  // from one to the next, in floats
  int height, width;                                             // of the input
  int out_height, out_width;
  int kernel_height, kernel_width;
  int run, run_slots;
  int stride;
  int padding_top, padding_left;  // may be negative
  int spread;                     // the input stands on every spread-th pixel of a grid of zeros
  int64_t pixels;                 // rows of the matrix
  bool aligned;                   // vectors_aligned for each run

  // Input elements that a pixel sees: the columns of the matrix, without and with the slots' padding.
  __host__ __device__ int seen() const { return kernel_height * kernel_width * run; }
  __host__ __device__ int slots() const { return kernel_height * kernel_width * run_slots; }

  // Whether blocks that walk in slices of `depth` terms may read it with Access::kVectors: a slice reaches into the next
  // tap, or the next row of pixels, at most, and 32 bits hold the offsets within an image.
  bool reads_vectors(int depth) const {
    return aligned && spread == 1 && run_slots >= depth && out_width >= depth &&
           height * std::abs(row_stride) + width * std::abs(pixel_stride) <= INT32_MAX;
  }
};

// Where a row of the patch matrix has its patch: the input pixel under the kernel's first tap.
struct alignas(16) PatchOrigin {
  int64_t image;  // floats from the input's start: an address that has been in shared memory costs a GPU more to use
  int y, x;       // y is kNowhere behind the last row

  static constexpr int kNowhere = INT32_MIN;

  // The run of a tap, nullptr where it is padding.
  template <Access access = Access::kAny>
  PYALEXNET_INLINE const float* run(const Patches& p, int tap_y, int tap_x) const {
    int row = y + tap_y, column = x + tap_x;
    if constexpr (access == Access::kAny) {
      if (p.spread > 1) {
        if (row % p.spread != 0 || column % p.spread != 0) return nullptr;
        row /= p.spread, column /= p.spread;
      }
    }
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

// A slot of the patch matrix's columns, advancing along them.
struct alignas(16) TapCursor {
  int y, x, channel;

  TapCursor() = default;
  PYALEXNET_INLINE TapCursor(const Patches& p, int slot)
      : y(slot / p.run_slots / p.kernel_width), x(slot / p.run_slots % p.kernel_width), channel(slot % p.run_slots) {}

  template <Access access = Access::kAny>
  PYALEXNET_INLINE void advance(const Patches& p, int count) {
    channel += count;
    if constexpr (access == Access::kVectors) {
      if (channel >= p.run_slots) next_tap(p);
    } else {
      while (channel >= p.run_slots) next_tap(p);
    }
  }

 private:
  PYALEXNET_INLINE void next_tap(const Patches& p) {
    channel -= p.run_slots;
    if (++x == p.kernel_width) x = 0, ++y;
  }
};

// Slots and the rows of a matrix that has no rows for the slots between run and run_slots.
struct SlotRows {
  int run, run_slots;

  // -1 for a slot without a row.
  PYALEXNET_INLINE int64_t row(int64_t slot) const {
    if (run == run_slots) return slot;
    const int tap = static_cast<int>(slot) / run_slots, channel = static_cast<int>(slot) % run_slots;
    return channel < run ? tap * run + channel : -1;
  }
};

// A row for each slot.
inline constexpr SlotRows kNoGaps{kMaxTerms, kMaxTerms};

// The right factor of a product: row-major, with a row for a term. A group's columns lie side by side.
struct RightMatrix {
  const float* data;
  int64_t pitch;
  int64_t slots;
  SlotRows slot_rows;
  bool aligned;

  // The same of this matrix; offsets run one slice ahead.
  bool reads_vectors(int depth) const {
    return aligned && slot_rows.run_slots >= depth && (slots + depth) * pitch <= INT32_MAX;
  }
};

template <class Tile, SliceOrder order>
struct LeftSlice {
  alignas(64) float at[(order == SliceOrder::kRowMajor ? Tile::kRows : Tile::kDepth) * Tile::left_pitch(order)];
};

template <class Tile>
struct RightSlice {
  alignas(64) float at[Tile::kDepth * Tile::kColumns];
};

// ---- staged ----

// min(4, lanes) floats from `from`, zeros in the other lanes.
template <Access access>
PYALEXNET_INLINE Vec<4> load_quad(const float* from, int lanes, bool aligned) {
  return load_lanes<4>(from, lanes, access == Access::kVectors || aligned);
}

// Left slices whose rows are rows of the patch matrix and whose terms are its slots.
//
// Two neighbouring threads take the two quads of a row's 8 terms, which is one 32-byte sector of device memory. They
// store them transposed, a float at a time: in each store the 16 rows of a warp lie next to each other, and the
// pitch puts the second quad's 16 banks beside the first's.
template <class Tile, Access access>
class StagedPatchRows {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  struct Shared {
    PatchOrigin origins[Tile::kRows];
  };

  PYALEXNET_INLINE StagedPatchRows(const Patches& patches, int group, int64_t first_row, int64_t first_slot,
                                   Shared& shared)
      : patches_(patches), shared_(shared), tap_(patches, static_cast<int>(first_slot) + quad() * 4) {
    for (int r = threadIdx.x; r < Tile::kRows; r += Tile::kThreads) {
      shared.origins[r] = PixelCursor(patches, group, first_row + r).origin(patches);
    }
  }

  PYALEXNET_INLINE void fetch(int terms) {
    const int lanes = quad() * 4 < terms ? patches_.run - tap_.channel : 0;
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const float* run = shared_.origins[row(i)].template run<access>(patches_, tap_.y, tap_.x);
      staged_[i] = run ? load_quad<access>(run + tap_.channel, lanes, patches_.aligned) : broadcast<4>(0.0f);
    }
    tap_.template advance<access>(patches_, Tile::kDepth);
  }

  PYALEXNET_INLINE void commit(float* slice) const {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      PYALEXNET_UNROLL
      for (int e = 0; e < 4; ++e) slice[(quad() * 4 + e) * Tile::left_pitch(kOrder) + row(i)] = staged_[i][e];
    }
  }

 private:
  static constexpr int kQuads = Tile::kDepth / 4;
  static constexpr int kRowsPerPass = Tile::kThreads / kQuads;
  static constexpr int kPasses = Tile::kRows / kRowsPerPass;
  static_assert(kQuads == 2 && Tile::kRows % kRowsPerPass == 0, "the bank arithmetic is for two quads a row");

  PYALEXNET_INLINE static int quad() { return threadIdx.x % kQuads; }
  PYALEXNET_INLINE static int row(int pass) { return pass * kRowsPerPass + threadIdx.x / kQuads; }

  const Patches& patches_;
  const Shared& shared_;
  TapCursor tap_;
  Vec<4> staged_[kPasses];
};

// Left slices whose rows are slots of the patch matrix and whose terms are its rows; one more row behind the last
// slot holds ones. A warp reads 128 neighbouring slots of a pixel and stores them as they are.
template <class Tile, Access access>
class StagedPatchColumns {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  static constexpr int kQuads = Tile::kRows / 4;
  struct Shared {
    TapCursor taps[kQuads];
  };

  PYALEXNET_INLINE StagedPatchColumns(const Patches& patches, int group, int64_t first_slot, int64_t first_pixel,
                                      Shared& shared)
      : patches_(patches), shared_(shared), pixel_(patches, group, first_pixel + term(0)) {
    for (int q = threadIdx.x; q < kQuads; q += Tile::kThreads) {
      shared.taps[q] = TapCursor(patches, static_cast<int>(first_slot) + q * 4);
    }
  }

  PYALEXNET_INLINE void fetch(int) {
    const TapCursor tap = shared_.taps[quad()];
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      const PatchOrigin origin = pixel_.origin(patches_);
      if (tap.y < patches_.kernel_height) {
        const float* run = origin.template run<access>(patches_, tap.y, tap.x);
        const int lanes = patches_.run - tap.channel;
        staged_[i] = run ? load_quad<access>(run + tap.channel, lanes, patches_.aligned) : broadcast<4>(0.0f);
      } else {
        staged_[i] = broadcast<4>(origin.y == PatchOrigin::kNowhere ? 0.0f : 1.0f);
      }
      pixel_.template advance<access>(patches_, kTermsPerPass);
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) store(slice + term(i) * Tile::left_pitch(kOrder) + quad() * 4, staged_[i]);
  }

 private:
  static constexpr int kTermsPerPass = Tile::kThreads / kQuads;
  static constexpr int kPasses = Tile::kDepth / kTermsPerPass;
  static_assert(Tile::kThreads % kQuads == 0 && Tile::kDepth % kTermsPerPass == 0, "threads share out the slice");

  PYALEXNET_INLINE static int quad() { return threadIdx.x % kQuads; }
  PYALEXNET_INLINE static int term(int pass) { return pass * kTermsPerPass + threadIdx.x / kQuads; }

  const Patches& patches_;
  const Shared& shared_;
  PixelCursor pixel_;
  Vec<4> staged_[kPasses];
};

// Slices of the right matrix: each thread one quad of a row.
template <class Tile, Access access>
class StagedRight {
 public:
  // `columns` lies in shared memory, where it takes no register.
  PYALEXNET_INLINE StagedRight(const RightMatrix& matrix, int64_t first_column, const int& columns, int64_t first_slot)
      : matrix_(matrix), columns_(columns) {
    const int64_t slot = first_slot + term();
    channel_ = static_cast<int>(slot % matrix.slot_rows.run_slots);
    const int64_t row = slot / matrix.slot_rows.run_slots * matrix.slot_rows.run + channel_;
    next_ = static_cast<Offset>(row * matrix.pitch + first_column + column());
    left_ = static_cast<int>(matrix.slots - slot < kMaxTerms ? matrix.slots - slot : kMaxTerms);
    if (column() >= columns) left_ = 0;
  }

  PYALEXNET_INLINE void fetch(int) {
    const bool there = left_ > 0 && channel_ < matrix_.slot_rows.run;
    // With vectors, columns come by the quad.
    const int lanes = access == Access::kVectors ? 4 : columns_ - column();
    staged_ = there ? load_quad<access>(matrix_.data + next_, lanes, matrix_.aligned) : broadcast<4>(0.0f);
    left_ -= Tile::kDepth;
    next_ += Tile::kDepth * static_cast<Offset>(matrix_.pitch);
    channel_ += Tile::kDepth;
    if constexpr (access == Access::kVectors) {
      if (channel_ >= matrix_.slot_rows.run_slots) skip_gap();
    } else {
      while (channel_ >= matrix_.slot_rows.run_slots) skip_gap();
    }
  }

  PYALEXNET_INLINE void commit(float* slice) const { store(slice + term() * Tile::kColumns + column(), staged_); }

 private:
  static constexpr int kQuads = Tile::kColumns / 4;
  static_assert(Tile::kThreads == kQuads * Tile::kDepth, "one quad a thread");

  PYALEXNET_INLINE void skip_gap() {
    channel_ -= matrix_.slot_rows.run_slots;
    next_ -= (matrix_.slot_rows.run_slots - matrix_.slot_rows.run) * static_cast<Offset>(matrix_.pitch);
  }

  PYALEXNET_INLINE static int column() { return threadIdx.x % kQuads * 4; }
  PYALEXNET_INLINE static int term() { return threadIdx.x / kQuads; }

  using Offset = std::conditional_t<access == Access::kVectors, int, int64_t>;

  const RightMatrix& matrix_;
  const int& columns_;
  Offset next_;  // floats from the matrix's start
  int channel_, left_;
  Vec<4> staged_;
};

// ---- direct ----

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

// `slots` slots from `tap` on of the patch matrix's rows at `origins`, to rows `pitch` apart. Returns the slots that
// were there; tap is behind them then.
template <int kPitch>
PYALEXNET_INLINE int copy_patches(float* to, const Patches& patches, const PatchOrigin* origins, int rows,
                                  TapCursor& tap, int slots) {
  int done = 0;
  while (done < slots && tap.y < patches.kernel_height) {
    const int count = std::min(patches.run - tap.channel, slots - done);
    for (int r = 0; r < rows; ++r) {
      const float* run = origins[r].run(patches, tap.y, tap.x);
      if (run) {
        copy_floats(to + r * kPitch + done, run + tap.channel, count);
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
class DirectPatchRows {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kRowMajor;
  struct Shared {
    PatchOrigin origins[Tile::kRows];
  };

  PYALEXNET_INLINE DirectPatchRows(const Patches& patches, int group, int64_t first_row, int64_t first_slot,
                                   Shared& shared)
      : patches_(patches), shared_(shared), tap_(patches, static_cast<int>(first_slot)) {
    rows_ = static_cast<int>(std::min<int64_t>(Tile::kRows, patches.pixels - first_row));
    PixelCursor pixel(patches, group, first_row);
    for (int r = 0; r < rows_; ++r, pixel.advance(patches, 1)) shared.origins[r] = pixel.origin(patches);
  }

  PYALEXNET_INLINE void fetch(int depth) { depth_ = depth; }

  PYALEXNET_INLINE void commit(float* slice) {
    copy_patches<Tile::left_pitch(kOrder)>(slice, patches_, shared_.origins, rows_, tap_, depth_);
  }

 private:
  const Patches& patches_;
  const Shared& shared_;
  TapCursor tap_;
  int rows_, depth_;
};

template <class Tile>
class DirectPatchColumns {
 public:
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  struct Shared {
    PatchOrigin origins[Tile::kDepth];
  };

  PYALEXNET_INLINE DirectPatchColumns(const Patches& patches, int group, int64_t first_slot, int64_t first_pixel,
                                      Shared& shared)
      : patches_(patches),
        shared_(shared),
        first_tap_(patches, static_cast<int>(first_slot)),
        pixel_(patches, group, first_pixel) {}

  PYALEXNET_INLINE void fetch(int depth) { depth_ = depth; }

  PYALEXNET_INLINE void commit(float* slice) {
    constexpr int kPitch = Tile::left_pitch(kOrder);
    for (int k = 0; k < depth_; ++k, pixel_.advance(patches_, 1)) shared_.origins[k] = pixel_.origin(patches_);
    TapCursor tap = first_tap_;
    const int slots = copy_patches<kPitch>(slice, patches_, shared_.origins, depth_, tap, Tile::kRows);
    if (slots == Tile::kRows) return;
    for (int k = 0; k < depth_; ++k) slice[k * kPitch + slots] = 1.0f;
  }

 private:
  const Patches& patches_;
  Shared& shared_;
  const TapCursor first_tap_;
  PixelCursor pixel_;
  int depth_;
};

// Slices of the right matrix, cut into panels of kPanel columns.
template <class Tile>
class DirectRight {
 public:
  PYALEXNET_INLINE DirectRight(const RightMatrix& matrix, int64_t first_column, int columns, int64_t first_slot)
      : next_(matrix.data + first_slot * matrix.pitch + first_column), pitch_(matrix.pitch), columns_(columns) {}

  PYALEXNET_INLINE void fetch(int depth) { depth_ = depth; }

  PYALEXNET_INLINE void commit(float* slice) {
    for (int k = 0; k < depth_; ++k, next_ += pitch_) {
      for (int n = 0; n < columns_; n += Tile::kPanel) {
        float* to = slice + n * Tile::kDepth + k * Tile::kPanel;
        copy_floats(to, next_ + n, std::min(Tile::kPanel, columns_ - n));
      }
    }
  }

 private:
  const float* next_;
  const int64_t pitch_;
  const int columns_;
  int depth_;
};

template <class Tile, Access access>
using PatchRows = std::conditional_t<kRunsOnCores, DirectPatchRows<Tile>, StagedPatchRows<Tile, access>>;
template <class Tile, Access access>
using PatchColumns = std::conditional_t<kRunsOnCores, DirectPatchColumns<Tile>, StagedPatchColumns<Tile, access>>;
template <class Tile, Access access>
using RightRows = std::conditional_t<kRunsOnCores, DirectRight<Tile>, StagedRight<Tile, access>>;

}  // namespace pyalexnet
