// The shapes in which a matrix product is cut up, for each target.
//
// A block computes kRows x kColumns of the result. It walks along the sums in slices of at most kDepth terms, which
// its threads put into __shared__ memory together: kDepth columns of the left matrix and as many rows of the right one.
// A thread holds the sums of a register tile of kThreadRows x kThreadColumns.
//
// There are three families of tiles, and what a kernel must know of their difference it asks the tile:
//
//   kWay              On which way slices come into shared memory.
//   kFullSlices       Every slice has kDepth terms, zeros behind the last one, so that its loop can be unrolled.
//   kSumsInRegisters  A thread has one register tile, whose sums stay where they are over all slices; else it has
//                     kRowTiles x kColumnTiles, one after the other in registers, and their sums wait in memory.
//   kLeftQuads        A thread's rows come by four neighbours, which one access reads.
//   kPanel            So many columns of a right slice lie together; its panels follow each other.
//   kRunMultiple      A run of the patch matrix is padded to a multiple of this (device/patches.cuh), so that no 16-byte
//                     access straddles two of them.
//   kWide             For few rows: reading the right matrix is what takes the time, which is done in place.
#pragma once

#include "device/launch.cuh"
#include "device/precision.cuh"
#include "device/vec.cuh"

namespace pyalexnet {

// Where an element of the left matrix's slice lies: terms of one row next to each other, or rows of one term.
enum class SliceOrder { kRowMajor, kDepthMajor };

// How a slice comes from device into shared memory.
enum class SliceWay {
  kCopied,  // by a thread alone, straight to where it is read
  kStaged,  // by quads; the next one waits in registers while the current one is multiplied
  kWords,   // the same word by word, and no run is padded: for runs that are no whole quads
  kAsync,   // by copies that go on by themselves, several slices ahead
};

// A block of many threads, for a GPU and for the target that executes what a GPU does.
//
// A warp's lanes stand in kLaneRows x kLaneColumns. A thread's rows are quads, its neighbours' quads in between, and so
// are its columns: per term, a warp reads whole rows of contiguous quads from both slices, each for several lanes, and
// every 16-byte access is free of bank conflicts. The lanes that one access serves at a time, eight neighbours, form a
// square of two row quads and four column quads, which are fewer bytes than a row of the warp's.
template <int Rows, int Columns, int ThreadRows, int ThreadColumns, int Depth = 8>
struct GpuTile {
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth;
  static constexpr int kThreadRows = ThreadRows, kThreadColumns = ThreadColumns;
  static constexpr int kThreads = kRows / kThreadRows * (kColumns / kThreadColumns);
  static constexpr SliceWay kWay = kDepth % 4 == 0 ? SliceWay::kStaged : SliceWay::kWords;
  static constexpr int kRunMultiple = kWay == SliceWay::kWords ? 1 : 4;
  // So many that nothing spills: 128 registers a thread for 256 threads, 168 for fewer, which stage more, and 136 for
  // those that stage words.
  static constexpr int kBlocksPerMultiprocessor =
      kThreads == 256 ? 2 : (kWay == SliceWay::kWords ? 480 : 384) / kThreads;
  static constexpr int kBuffers = 2;
  static constexpr bool kFullSlices = true, kSumsInRegisters = true, kLeftQuads = true, kWide = false;
  static constexpr Precision kPrecision = Precision::kFp32;
  static constexpr int kVector = 4;
  static constexpr int kPanel = kColumns;
  static constexpr int kRowTiles = 1, kColumnTiles = 1;
  static constexpr int kLaneColumns = kColumns % (8 * kThreadColumns) == 0   ? 8
                                      : kColumns % (4 * kThreadColumns) == 0 ? 4
                                                                             : 2;
  static constexpr int kLaneRows = 32 / kLaneColumns;
  static constexpr int kWarpRows = kLaneRows * kThreadRows, kWarpColumns = kLaneColumns * kThreadColumns;
  // Four floats of padding move the second quad of a row's terms, which other lanes of the same warp store, by 16
  // banks (4 * (kRows + 4) mod 32): see RowQuads.
  __host__ __device__ static constexpr int left_pitch(SliceOrder) { return kRows + 4; }
  __host__ __device__ static constexpr int right_pitch() { return kColumns; }
  static constexpr SliceOrder kOrderOfRows = SliceOrder::kDepthMajor;
  // Where an element is in its slice.
  __host__ __device__ static constexpr int left_place(SliceOrder order, int row, int term) {
    return term * left_pitch(order) + row;
  }
  __host__ __device__ static constexpr int right_place(int term, int column) { return term * right_pitch() + column; }
  static_assert(kRows % 32 == 0, "the bank arithmetic of left_pitch");
  static_assert(kThreadRows % 4 == 0 && kThreadColumns % 4 == 0, "rows and columns come by quads");
  static_assert(kRows % kWarpRows == 0 && kColumns % kWarpColumns == 0, "whole warps fill the block");

  // Where a register tile's row i and column vector j are, from its first one on.
  __host__ __device__ static constexpr int row(int i) { return i / 4 * 4 * kLaneRows + i % 4; }
  __host__ __device__ static constexpr int column(int j) { return j * 4 * kLaneColumns; }

  // The order in which a register tile's rows are multiplied: from last to first nvcc finds registers for all of it.
  __host__ __device__ static constexpr int nth_row(int n) { return kThreadRows - 1 - n; }

  // Calls body(row_tile, column_tile, first_row, first_column) for the calling thread's register tiles that may have an
  // element within rows x columns.
  template <class Body>
  PYALEXNET_INLINE static void for_each_register_tile(int, int, Body body) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warps_down = kRows / kWarpRows;
    const int row_quad = lane % 2 + lane / (2 * kLaneColumns) * 2, column_quad = lane / 2 % kLaneColumns;
    body(0, 0, warp % warps_down * kWarpRows + row_quad * 4, warp / warps_down * kWarpColumns + column_quad * 4);
  }
};

// A block whose warps multiply on tensor cores (device/tensor_steps.cuh), each WarpRows x WarpColumns of the result.
//
// Slices lie in shared memory as they are in device memory, by quads. Which of the instruction's terms, rows and columns
// are which of the slices' is free, so that what a lane reads at once is a pair: with group = lane / 4 and place =
// lane % 4, of every eight terms 2 place and 2 place + 1; of every 8 rows of the left slice the one at `group`; of every 16
// columns of the right one 2 group and 2 group + 1.
//
// The order of a line's quads, of eight in 32 banks, depends on the line, so that the lanes which an access serves at a
// time find theirs in different banks: a warp, or half of one, of these pairs.
template <int Rows, int Columns, int WarpRows, int WarpColumns, Precision precision>
struct TensorTile {
  static constexpr Precision kPrecision = precision;
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = 16;
  static constexpr int kWarpRows = WarpRows, kWarpColumns = WarpColumns;
  static constexpr int kThreadRows = WarpRows / 4, kThreadColumns = WarpColumns / 8;
  static constexpr int kThreads = Rows / WarpRows * (Columns / WarpColumns) * 32;
  // So many that nothing spills: tf32x3 holds an operand in two registers.
  static constexpr int kBlocksPerMultiprocessor = kThreads == 256 ? 1 : 2;
  static constexpr int kBuffers = 4;
  static constexpr SliceWay kWay = SliceWay::kAsync;
  static constexpr int kRunMultiple = 4;
  static constexpr bool kFullSlices = true, kSumsInRegisters = true, kWide = false;
  static constexpr int kVector = 2;
  static constexpr int kPanel = kColumns;
  static constexpr int kRowTiles = 1, kColumnTiles = 1;
  __host__ __device__ static constexpr int left_pitch(SliceOrder order) {
    return order == SliceOrder::kRowMajor ? kDepth : kRows;
  }
  __host__ __device__ static constexpr int right_pitch() { return kColumns; }
  static constexpr SliceOrder kOrderOfRows = SliceOrder::kRowMajor;
  // Where an element is in its slice.
  __host__ __device__ static constexpr int left_place(SliceOrder order, int row, int term) {
    if (order == SliceOrder::kDepthMajor) return term * kRows + (row ^ swizzle_of(term));
    return row * kDepth + (term ^ row / 2 % 2 * 8);
  }
  __host__ __device__ static constexpr int right_place(int term, int column) {
    return term * kColumns + (column ^ swizzle_of(term));
  }
  // The places of the rest of what a lane reads, from its first row, column and term on, those among the first 8, 16 and
  // 8: nearly all are constants beside the first place, which take no registers and no instructions.
  __host__ __device__ static constexpr int left_place_from(SliceOrder order, int first, int rows, int terms) {
    if (order == SliceOrder::kDepthMajor) return right_place_from(first, terms, rows, kRows);
    return (first ^ terms) + rows * kDepth;  // terms: 0 or 8
  }
  __host__ __device__ static constexpr int right_place_from(int first, int terms, int columns, int pitch = kColumns) {
    return (first ^ columns % 32) + terms * pitch + columns / 32 * 32;
  }
  // The same for what a thread brings, terms further on by a multiple of what lies between the threads'.
  __host__ __device__ static constexpr int brought_row_from(int first, int rows) { return first + rows * kDepth; }
  __host__ __device__ static constexpr int brought_term_from(int first, int terms, int pitch) {
    return (first ^ swizzle_of(terms)) + terms * pitch;
  }
  static_assert(precision != Precision::kFp32, "tensor cores round operands");
  static_assert(kDepth == 16, "two rows share a line of banks");
  static_assert(kRows % 32 == 0 && kColumns % 32 == 0, "whole lines of banks");
  static_assert(kWarpRows % 8 == 0 && kWarpColumns % 16 == 0, "whole instructions fill the warp's rows and columns");
  static_assert(kRows % kWarpRows == 0 && kColumns % kWarpColumns == 0, "whole warps fill the block");

  __host__ __device__ static constexpr int row(int i) { return i / 2 * 8 + i % 2; }
  __host__ __device__ static constexpr int column(int j) { return j * 16; }

  template <class Body>
  PYALEXNET_INLINE static void for_each_register_tile(int, int, Body body) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warps_down = kRows / kWarpRows;
    body(0, 0, warp % warps_down * kWarpRows + lane % 4 * 2, warp / warps_down * kWarpColumns + lane / 4 * 2);
  }

 private:
  // What the columns of a term are moved by: a bit of it for each bit of the number of the term's pair, of four.
  __host__ __device__ static constexpr int swizzle_of(int term) { return term / 2 % 2 * 16 + term / 4 % 2 * 8; }
};

// A block that is one thread on a CPU core, so that __syncthreads costs nothing.
//
// The left slice and the sums stay in the L2 cache (0.6 MB for 192 columns, 0.4 MB for 48); the part of the right slice
// that a register tile reads, a panel of kThreadColumns, stays in L1 while all rows pass by. A wide block reads the right
// matrix in place, so it is shallow: a power of two of bytes apart, its terms share a set of L1, of eight ways or more.
template <int Rows, int Columns, int ThreadRows, int ThreadColumns, int Depth = 128>
struct CoreTile {
  static constexpr int kRows = Rows, kColumns = Columns, kDepth = Depth;
  static constexpr int kThreadRows = ThreadRows, kThreadColumns = ThreadColumns;
  static constexpr int kThreads = 1, kBlocksPerMultiprocessor = 1;
  static constexpr int kBuffers = 1;
  static constexpr SliceWay kWay = SliceWay::kCopied;
  static constexpr int kRunMultiple = 1;
  static constexpr bool kFullSlices = false, kSumsInRegisters = false, kLeftQuads = false;
  static constexpr bool kWide = kDepth < 128;
  static constexpr int kVector = kVectorFloats;
  static constexpr int kPanel = kThreadColumns;
  static constexpr int kRowTiles = kRows / kThreadRows, kColumnTiles = kColumns / kThreadColumns;
  // An odd number of cache lines, which spreads a column of the slice over all sets of the cache.
  __host__ __device__ static constexpr int left_pitch(SliceOrder order) {
    return order == SliceOrder::kRowMajor ? kDepth + 16 : kRows + 16;
  }
  __host__ __device__ static constexpr int right_pitch() { return kWide ? kPanel : kColumns; }  // of all panels
  static_assert((kDepth + 16) / 16 % 2 == 1 && (kRows + 16) / 16 % 2 == 1, "odd pitches");
  static_assert(kRows % kThreadRows == 0 && kColumns % kThreadColumns == 0, "register tiles fill the block");
  static_assert(kThreadColumns % kVector == 0, "columns come by vectors");

  __host__ __device__ static constexpr int row(int i) { return i; }
  __host__ __device__ static constexpr int column(int j) { return j * kVector; }
  __host__ __device__ static constexpr int nth_row(int n) { return n; }

  // Column tiles are outermost, so that a panel stays in L1.
  template <class Body>
  PYALEXNET_INLINE static void for_each_register_tile(int rows, int columns, Body body) {
    for (int n = 0; n * kThreadColumns < columns; ++n) {
      for (int m = 0; m * kThreadRows < rows; ++m) body(m, n, m * kThreadRows, n * kThreadColumns);
    }
  }
};

template <class... Tile>
struct TileList {
  static constexpr int kCount = sizeof...(Tile);
};

// The target's tiles, the one first that is taken where none wastes less.
//
// On CPU cores a register tile has as many sums as registers hold beside a row of the right slice and an element of the
// left one; where registers are wide there are two of them, so that one divides AlexNet's 48, 128 and 192 columns. For few
// rows there are wide ones, one of a single row among them, which computes nothing that is not asked for; for few columns,
// as a gradient by the inputs of few rows has, a narrow one. On a GPU it is the classical 8 x 8, and a block of conv1's 48
// columns has as few terms as its threads can share out evenly.
#if !defined(PYALEXNET_TARGET_CPU)
using Tiles = TileList<GpuTile<128, 128, 8, 8>, GpuTile<128, 64, 8, 8>, GpuTile<128, 48, 8, 8, 6>>;
#elif defined(__AVX512F__)
using Tiles = TileList<CoreTile<384, 192, 8, 48>, CoreTile<384, 192, 12, 32>, CoreTile<96, 1024, 1, 64, 8>,
                       CoreTile<96, 1024, 4, 64, 8>, CoreTile<96, 1024, 6, 64, 8>, CoreTile<384, 192, 24, 16>>;
#elif defined(__AVX__)
using Tiles = TileList<CoreTile<384, 192, 6, 16>, CoreTile<96, 1024, 1, 64, 8>, CoreTile<96, 1024, 6, 16, 8>,
                       CoreTile<384, 192, 12, 8>>;
#elif defined(__aarch64__)
using Tiles = TileList<CoreTile<384, 192, 8, 12>, CoreTile<96, 1024, 1, 32, 8>, CoreTile<96, 1008, 8, 12, 8>>;
#else
using Tiles = TileList<CoreTile<384, 192, 6, 8>, CoreTile<96, 1024, 1, 32, 8>, CoreTile<96, 1024, 6, 8, 8>>;
#endif

// The tiles for a precision: a GPU has tensor cores, and cores round operands as they copy them, for the same tiles.
template <Precision precision>
struct TilesOf {
  using List = TileList<TensorTile<128, 128, 64, 64, precision>, TensorTile<256, 64, 64, 64, precision>>;
};
template <>
struct TilesOf<Precision::kTf32x3> {
  using List =
      TileList<TensorTile<128, 128, 64, 32, Precision::kTf32x3>, TensorTile<128, 64, 64, 32, Precision::kTf32x3>>;
};
template <>
struct TilesOf<Precision::kFp32> {
  using List = Tiles;
};

// Calls body(constant) with the precision whose tiles multiply in `precision`.
template <class Body>
void with_tiles_for([[maybe_unused]] Precision precision, Body body) {
#if !defined(PYALEXNET_TARGET_CPU)
  if (precision == Precision::kTf32) return body(std::integral_constant<Precision, Precision::kTf32>());
  if (precision == Precision::kBf16) return body(std::integral_constant<Precision, Precision::kBf16>());
  if (precision == Precision::kTf32x3) return body(std::integral_constant<Precision, Precision::kTf32x3>());
#endif
  body(std::integral_constant<Precision, Precision::kFp32>());
}

// Calls body(index, Tile()) for each of the target's tiles for a precision.
template <class Body>
void for_each_tile(Precision precision, Body body) {
  with_tiles_for(precision, [&](auto constant) {
    [&]<class... Tile>(TileList<Tile...>) {
      int index = 0;
      (body(index++, Tile()), ...);
    }(typename TilesOf<constant()>::List());
  });
}

}  // namespace pyalexnet
