// What every block of a product has (device/product_block.cuh): its place, the memory that its threads share, and where its
// sums go.
#pragma once

#include "device/mma.cuh"
#include "device/slices.cuh"

namespace pyalexnet {

// Where rows of sums go: row r of part p to data + p part_stride + r pitch, but row `rows` to last_row + p part_stride;
// those of group g from there g group_stride on.
struct Output {
  float* data;
  int64_t pitch, group_stride, rows, part_stride;
  float* last_row;    // nullptr where there is none
  const float* bias;  // nullptr: none
  bool relu;
  bool aligned;
  bool past_caches = false;  // whether cores store what no cache would hold until it is read

  __host__ __device__ int64_t all_rows() const { return rows + (last_row ? 1 : 0); }

  PYALEXNET_INLINE float* row(int part, int64_t r) const {
    return part * part_stride + (r < rows ? data + r * pitch : last_row);
  }

  template <int N>
  PYALEXNET_INLINE Vec<N> finish(Vec<N> sum, int64_t column, int lanes) const {
    if (bias) sum = sum + load_lanes<N>(bias + column, lanes, aligned);
    return relu ? pyalexnet::relu(sum) : sum;
  }
};

// How a product is cut into blocks.
struct Cut {
  int64_t rows, row_blocks;  // the last row may be Output::last_row
  int64_t columns;           // of a group
  int column_blocks, groups;
  int block_rows, block_columns;
  int64_t terms;
  int parts, part_terms;  // along the sums; part_terms is a multiple of slice_terms
  int slice_terms;
};

// The block's place in the result and along the sums. Neighbouring blocks share rows. It lives in shared memory, where
// it takes no registers while slices are multiplied.
struct BlockPlace {
  int group, part;
  int64_t first_row, first_column, first_term;
  int rows, columns, terms;

  PYALEXNET_INLINE void find(const Cut& cut, unsigned block) {
    unsigned rest = block;
    first_column = static_cast<int64_t>(rest % cut.column_blocks) * cut.block_columns;
    rest /= cut.column_blocks;
    first_row = rest % cut.row_blocks * cut.block_rows;
    rest /= cut.row_blocks;
    part = rest % cut.parts;
    group = rest / cut.parts;
    first_term = static_cast<int64_t>(part) * cut.part_terms;
    rows = at_most(cut.block_rows, cut.rows - first_row);
    columns = at_most(cut.block_columns, cut.columns - first_column);
    terms = at_most(cut.part_terms, cut.terms - first_term);
  }

  static PYALEXNET_INLINE int at_most(int most, int64_t value) { return value < most ? static_cast<int>(value) : most; }
};

// The sums of a block of one thread between slices. They are not there before the first one.
template <class Tile>
struct MemorySums {
  RegisterTile<Tile> tiles[Tile::kRowTiles][Tile::kColumnTiles];

  PYALEXNET_INLINE RegisterTile<Tile> take(int m, int n, bool first_slice) const {
    if (!first_slice) return tiles[m][n];
    RegisterTile<Tile> tile;
    tile.clear();
    return tile;
  }

  // Those of a row, side by side.
  PYALEXNET_INLINE float* row(int m) {
    static_assert(Tile::kThreadRows == 1);
    return reinterpret_cast<float*>(tiles[m]);
  }
};

// A thread whose sums stay in its registers needs no memory for them.
struct NoSums {};

// What the threads of a block share.
template <class Tile, class Left>
struct BlockMemory {
  // Together, so that one number says where a buffer is.
  struct {
    LeftSlice<Tile, Left::kOrder> left;
    RightSlice<Tile> right;
  } slices[Tile::kBuffers];
  [[no_unique_address]] typename Left::Shared left_shared;
  BlockPlace place;
  [[no_unique_address]] std::conditional_t<Tile::kSumsInRegisters, NoSums, MemorySums<Tile>> sums;
};

// Writes a register tile's sums to their places. Row r of the result is row out_runs.row(r) of the output, the last
// one its last row.
template <class Tile>
PYALEXNET_INLINE void write_tile(RegisterTile<Tile>& tile, int row, int column, const Output& out, const Cut& cut,
                                 const BlockPlace& place, PaddedRuns out_runs) {
  const int64_t group_column = place.first_column + column;
  const int64_t bias_column = place.group * cut.columns + group_column;
  const int64_t out_column = place.group * out.group_stride + group_column;
  PYALEXNET_UNROLL
  for (int j = 0; j < RegisterTile<Tile>::kColumnVectors; ++j) {
    const int lanes = place.columns - column - Tile::column(j);
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      if (lanes > 0) tile.sums[i][j] = out.finish(tile.sums[i][j], bias_column + Tile::column(j), lanes);
    }
  }
  PYALEXNET_UNROLL
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    if (row + Tile::row(i) >= place.rows) continue;
    const int64_t r = place.first_row + row + Tile::row(i);
    const int64_t out_row = out.last_row && r == cut.rows - 1 ? out.rows : out_runs.row(r);
    if (out_row < 0) continue;
    float* const to = out.row(place.part, out_row) + out_column;
    PYALEXNET_UNROLL
    for (int j = 0; j < RegisterTile<Tile>::kColumnVectors; ++j) {
      const int lanes = place.columns - column - Tile::column(j);
      if (kRunsOnCores && out.past_caches && lanes >= Tile::kVector) {
        store_past_caches(to + Tile::column(j), tile.sums[i][j]);
      } else if (lanes > 0) {
        store_lanes(to + Tile::column(j), tile.sums[i][j], lanes, out.aligned);
      }
    }
  }
}

}  // namespace pyalexnet
