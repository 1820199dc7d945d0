// Which quads of a slice each thread of a GPU's block brings, and where in shared memory they go. A thread takes kPasses
// quads, of which walks (device/vector_walks.cuh, device/quad_walks.cuh) know where they come from.
#pragma once

#include "device/tile.cuh"

namespace pyalexnet {

// `lanes` floats at `from`, four at most, and zeros behind them. Where there are none the first one may be another value.
struct QuadSource {
  const float* from = nullptr;
  int lanes = 0;
  float instead = 0.0f;
};

// Of a left slice whose rows are rows of the patch matrix and whose terms are its columns. Neighbouring threads take the
// quads of a row's terms, which are whole 32-byte sectors of device memory.
template <class Tile>
struct RowQuads {
  static constexpr SliceOrder kOrder = Tile::kOrderOfRows;
  static constexpr int kQuads = Tile::kDepth / 4;
  static constexpr int kRowsPerPass = Tile::kThreads / kQuads;
  static constexpr int kPasses = Tile::kRows / kRowsPerPass;
  static_assert(Tile::kRows % kRowsPerPass == 0, "threads share out the slice");

  PYALEXNET_INLINE static int quad() { return threadIdx.x % kQuads; }
  PYALEXNET_INLINE static int row(int pass) { return pass * kRowsPerPass + threadIdx.x / kQuads; }

  // Where a quad's terms lie together.
  PYALEXNET_INLINE static int first_place() { return Tile::left_place(kOrder, row(0), quad() * 4); }
  PYALEXNET_INLINE static int place_from(int first, int pass) {
    return Tile::brought_row_from(first, pass * kRowsPerPass);
  }

  // Where each is a store: the rows of a warp lie next to each other, and the pitch puts the quads' into other banks.
  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[kPasses]) {
    static_assert(kOrder == SliceOrder::kDepthMajor);
    PYALEXNET_UNROLL
    for (int i = 0; i < kPasses; ++i) {
      PYALEXNET_UNROLL
      for (int e = 0; e < 4; ++e) slice[Tile::left_place(kOrder, row(i), quad() * 4 + e)] = staged[i][e];
    }
  }
};

// Of quads along the columns of a matrix, so many in a row: a thread takes the same one of every kStep-th term.
template <class Tile, int Quads>
struct TermQuads {
  static constexpr int kQuads = Quads;
  static constexpr int kStep = Tile::kThreads / kQuads;
  static constexpr int kPasses = Tile::kDepth / kStep;
  static_assert(Tile::kThreads % kQuads == 0 && Tile::kDepth % kStep == 0, "threads share out the slice");

  PYALEXNET_INLINE static int quad(unsigned thread = threadIdx.x) { return thread % kQuads; }
  PYALEXNET_INLINE static int term(int pass) { return threadIdx.x / kQuads + pass * kStep; }
};

// Of a left slice whose rows are columns of the patch matrix and whose terms are its rows. A warp reads neighbouring
// columns of a pixel.
template <class Tile>
struct ColumnQuads : TermQuads<Tile, Tile::kRows / 4> {
  using Terms = TermQuads<Tile, Tile::kRows / 4>;
  static constexpr SliceOrder kOrder = SliceOrder::kDepthMajor;

  PYALEXNET_INLINE static int place(int pass) { return Tile::left_place(kOrder, Terms::quad() * 4, Terms::term(pass)); }
  PYALEXNET_INLINE static int first_place() { return place(0); }
  PYALEXNET_INLINE static int place_from(int first, int pass) {
    return Tile::brought_term_from(first, pass * Terms::kStep, Tile::left_pitch(kOrder));
  }
  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[Terms::kPasses]) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Terms::kPasses; ++i) store(slice + place(i), staged[i]);
  }
};

// Of a slice of the right matrix.
template <class Tile>
struct RightQuads : TermQuads<Tile, Tile::kColumns / 4> {
  using Terms = TermQuads<Tile, Tile::kColumns / 4>;

  PYALEXNET_INLINE static int column(unsigned thread = threadIdx.x) { return Terms::quad(thread) * 4; }
  PYALEXNET_INLINE static int place(int pass) { return Tile::right_place(Terms::term(pass), column()); }
  PYALEXNET_INLINE static int first_place() { return place(0); }
  PYALEXNET_INLINE static int place_from(int first, int pass) {
    return Tile::brought_term_from(first, pass * Terms::kStep, Tile::right_pitch());
  }
  PYALEXNET_INLINE static void commit(float* slice, const Vec<4> (&staged)[Terms::kPasses]) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Terms::kPasses; ++i) store(slice + place(i), staged[i]);
  }
};

}  // namespace pyalexnet
