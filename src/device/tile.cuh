// The shapes in which a matrix product is cut up, for each target.
//
// A block computes kRows x kColumns of the result. It walks along the sums in slices of at most kDepth terms, which
// its threads put into __shared__ memory together; kBuffers slices fit, so that with two the next one is written
// while the current one is read. A thread holds the sums of one register tile of kThreadRows x kThreadColumns (GPU)
// or of all of the block's, one after the other in registers (CPU cores, where a block has a single thread, so that
// __syncthreads costs nothing).
#pragma once

#include <limits>

#include "device/launch.cuh"
#include "device/vec.cuh"

namespace pyalexnet {

// Where an element of the left matrix's slice lies: terms of one row next to each other, or rows of one term.
enum class SliceOrder { kRowMajor, kDepthMajor };

#if defined(PYALEXNET_TARGET_CPU)

// The left slice and the sums stay in the L2 cache (0.6 MB for 192 columns, 0.4 MB for 48); the part of the right slice
// that a register tile reads, a panel of kThreadColumns, stays in L1 while all rows pass by.
template <int ThreadRows, int ThreadColumns>
struct Tile {
  static constexpr int kRows = 384, kColumns = 192, kDepth = 128;
  static constexpr int kThreadRows = ThreadRows, kThreadColumns = ThreadColumns;
  static constexpr int kThreads = 1, kBlocksPerMultiprocessor = 1;
  static constexpr int kBuffers = 1;
  static constexpr int kVector = kVectorFloats;
  static constexpr int kPanel = kThreadColumns;
  static constexpr int kRowTiles = kRows / kThreadRows, kColumnTiles = kColumns / kThreadColumns;
  // An odd number of cache lines, which spreads a column of the slice over all sets of the cache.
  __host__ __device__ static constexpr int left_pitch(SliceOrder order) {
    return order == SliceOrder::kRowMajor ? kDepth + 16 : kRows + 16;
  }
  static_assert((kDepth + 16) / 16 % 2 == 1 && (kRows + 16) / 16 % 2 == 1, "odd pitches");
  static_assert(kRows % kThreadRows == 0 && kColumns % kThreadColumns == 0, "register tiles fill the block tile");

  __host__ __device__ static constexpr int row(int i) { return i; }
  __host__ __device__ static constexpr int column(int j) { return j * kVector; }

  // Of the parts that a product of so many blocks and terms may be cut into along its sums, the number that is best:
  // each core is to have blocks, and adding parts costs little.
  static int64_t best_parts(int64_t, int64_t, int64_t, int64_t, int64_t most) { return most; }

  // Calls body(row_tile, column_tile, first_row, first_column) for the calling thread's register tiles that have an
  // element within rows x columns; column tiles are outermost so that a panel stays in L1.
  template <class Body>
  PYALEXNET_INLINE static void for_each_register_tile(int rows, int columns, Body body) {
    for (int n = 0; n * kThreadColumns < columns; ++n) {
      for (int m = 0; m * kThreadRows < rows; ++m) body(m, n, m * kThreadRows, n * kThreadColumns);
    }
  }
};

// As many sums as registers hold beside a row of the right slice and an element of the left one. Two shapes where
// the registers are wide, so that one of them divides AlexNet's 48, 128 and 192 columns.
#if defined(__AVX512F__)
using WideTile = Tile<8, 48>;
using NarrowTile = Tile<12, 32>;
#elif defined(__AVX__)
using WideTile = Tile<6, 16>;
using NarrowTile = WideTile;
#elif defined(__aarch64__)
using WideTile = Tile<8, 12>;
using NarrowTile = WideTile;
#else
using WideTile = Tile<6, 8>;
using NarrowTile = WideTile;
#endif

// A tap's columns of a patch matrix are rounded up to a multiple of this (device/patches.cuh).
inline constexpr int kSlotMultiple = 1;

// A product is cut along its sums too, into at most about so many blocks of at least so many terms.
inline constexpr int kMostBlocks = 32;
inline constexpr int kMinTermsPerPart = 512;

#else

// A product is cut along its sums too, into at most about so many blocks of at least so many terms.
inline constexpr int kMostBlocks = 2048;
inline constexpr int kMinTermsPerPart = 256;
// What a product is cut for, an H100. A GPU of fewer multiprocessors does the same blocks in more rounds, of which the
// last one, only partly full, counts for less.
inline constexpr int kMultiprocessors = 132;

// The classical single-precision tile: 8x8 sums a thread, 4x8 threads a warp, four warps over the rows.
//
// A warp's sums are 32 x 64. A thread's rows are two quads 16 apart and its columns two quads 32 apart, so that per
// term a warp reads 2 x 64 bytes of the left slice (4 different quads, each by 8 lanes) and 2 x 128 contiguous bytes
// of the right one: every 16-byte access is free of bank conflicts. The lanes that one access serves at a time, eight
// neighbours, form a square of two row quads and four column quads, which are fewer bytes than a row of the warp's.
template <int Columns>
struct Tile {
  static constexpr int kRows = 128, kColumns = Columns, kDepth = 8;
  static constexpr int kThreadRows = 8, kThreadColumns = 8;
  static constexpr int kThreads = kRows / kThreadRows * (kColumns / kThreadColumns);
  // So many that nothing spills: 128 registers a thread for 256 threads, 168 for 128, which stage twice as much.
  static constexpr int kBlocksPerMultiprocessor = kThreads == 256 ? 2 : 3;
  static constexpr int kBuffers = 2;
  static constexpr int kVector = 4;
  static constexpr int kPanel = kColumns;
  static constexpr int kRowTiles = 1, kColumnTiles = 1;
  static constexpr int kWarpRows = 32, kWarpColumns = 64;
  // Four floats of padding move the second quad of a row's terms, which other lanes of the same warp store, by 16
  // banks (4 * 132 mod 32): see StagedPatchRows.
  __host__ __device__ static constexpr int left_pitch(SliceOrder) { return kRows + 4; }
  static_assert(kColumns % kWarpColumns == 0, "whole warps side by side");

  __host__ __device__ static constexpr int row(int i) { return i / 4 * 16 + i % 4; }
  __host__ __device__ static constexpr int column(int j) { return j * 32; }

  // The number from `least` to `most` of parts for which the rounds of blocks, and then the parts' addition, take least.
  static int64_t best_parts(int64_t sums, int64_t blocks, int64_t terms, int64_t least, int64_t most) {
    // Sums that all of memory writes and reads while all multiprocessors multiply one term: 1690 bytes a clock, beside
    // two thirds of 128 multiply-adds a multiprocessor.
    constexpr double kSumsMoved = 1690.0 / 8 / (128 * 2.0 / 3.0) * kRows * kColumns * kBlocksPerMultiprocessor;
    int64_t best = least;
    double least_time = std::numeric_limits<double>::infinity();
    for (int64_t parts = least; parts <= most; ++parts) {
      const int64_t rounds = ceil_div(blocks * parts, int64_t{kMultiprocessors} * kBlocksPerMultiprocessor);
      const double moved = parts == 1 ? 0.0 : static_cast<double>(sums) * static_cast<double>(parts);
      const double time =
          static_cast<double>(rounds) * static_cast<double>(ceil_div(terms, parts)) + moved / kSumsMoved;
      if (time < least_time) best = parts, least_time = time;
    }
    return best;
  }

  template <class Body>
  PYALEXNET_INLINE static void for_each_register_tile(int, int, Body body) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warps_down = kRows / kWarpRows;
    const int row_quad = lane % 2 + lane / 16 * 2, column_quad = lane / 2 % 8;
    body(0, 0, warp % warps_down * kWarpRows + row_quad * 4, warp / warps_down * kWarpColumns + column_quad * 4);
  }
};

using WideTile = Tile<128>;
using NarrowTile = Tile<64>;

// No 16-byte access straddles two taps.
inline constexpr int kSlotMultiple = 4;

#endif

}  // namespace pyalexnet
