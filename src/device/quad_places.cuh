// Which quads of a slice each thread of a GPU's block brings, and where in shared memory it puts them: what the slices of
// device/staged_slices.cuh and device/staged_quads.cuh have in common. A thread takes kPasses quads, or one.
#pragma once

#include "device/tile.cuh"

namespace pyalexnet {

// Of a left slice whose rows are rows of the patch matrix and whose terms are its columns. Two neighbouring threads take
// the two quads of a row's 8 terms, which is one 32-byte sector of device memory. They store them transposed, a float at
// a time: in each store the 16 rows of a warp lie next to each other, and the pitch puts the second quad's 16 banks
// beside the first's.
template <class Tile>
struct RowQuads {
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  static constexpr int kQuads = Tile::kDepth / 4;
  static constexpr int kRowsPerPass = Tile::kThreads / kQuads;
  static constexpr int kPasses = Tile::kRows / kRowsPerPass;
  static_assert(kQuads == 2 && Tile::kRows % kRowsPerPass == 0, "the bank arithmetic is for two quads a row");

  PYALEXNET_INLINE static int quad() { return threadIdx.x % kQuads; }
  PYALEXNET_INLINE static int row(int pass) { return pass * kRowsPerPass + threadIdx.x / kQuads; }

  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[kPasses]) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      PYALEXNET_UNROLL
      for (int e = 0; e < 4; ++e) slice[(quad() * 4 + e) * Tile::left_pitch(kOrder) + row(i)] = staged[i][e];
    }
  }
};

// Of a left slice whose rows are columns of the patch matrix and whose terms are its rows. A warp reads 128 neighbouring
// columns of a pixel and stores them as they are.
template <class Tile>
struct ColumnQuads {
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;
  static constexpr int kQuads = Tile::kRows / 4;
  static constexpr int kTermsPerPass = Tile::kThreads / kQuads;
  static constexpr int kPasses = Tile::kDepth / kTermsPerPass;
  static_assert(Tile::kThreads % kQuads == 0 && Tile::kDepth % kTermsPerPass == 0, "threads share out the slice");

  PYALEXNET_INLINE static int quad() { return threadIdx.x % kQuads; }
  PYALEXNET_INLINE static int term(int pass) { return pass * kTermsPerPass + threadIdx.x / kQuads; }

  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[kPasses]) {
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) store(slice + term(i) * Tile::left_pitch(kOrder) + quad() * 4, staged[i]);
  }
};

// Of a slice of the right matrix: each thread one quad of a row.
template <class Tile>
struct RightQuad {
  static constexpr int kQuads = Tile::kColumns / 4;
  static_assert(Tile::kThreads == kQuads * Tile::kDepth, "one quad a thread");

  PYALEXNET_INLINE static int column() { return threadIdx.x % kQuads * 4; }
  PYALEXNET_INLINE static int term() { return threadIdx.x / kQuads; }

  PYALEXNET_INLINE static void commit(float* slice, Vec<4> staged) {
    store(slice + term() * Tile::kColumns + column(), staged);
  }
};

}  // namespace pyalexnet
