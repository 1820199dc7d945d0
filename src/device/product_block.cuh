// What a block computes of out = left right, for left = P or P^T, is this loop over tiles of the plan's block size:
//
//   for each part of the sums, group, tile of rows, tile of columns:            a block
//     for each slice of at most kDepth terms of the part:                       fetch, commit
//       for each row and column of the tile, term of the slice:                 multiply_add
//         sums[row][column] += left[row][term] * right[term][column]
//     out[rows][columns] = relu(sums + bias), or the part's sums                write_tile
//   out = relu(the sum over parts + bias), where there are several              add_parts_kernel
#pragma once

#include "device/mma.cuh"
#include "device/slices.cuh"
#include "device/tensor_steps.cuh"

namespace pyalexnet {

// Where rows of sums go: row r of part p to data + p part_stride + r pitch, but row `rows` to last_row + p part_stride.
struct Output {
  float* data;
  int64_t pitch, rows, part_stride;
  float* last_row;    // nullptr where there is none
  const float* bias;  // nullptr: none
  bool relu;
  bool aligned;

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

  PYALEXNET_INLINE void find(const Cut& cut) {
    unsigned rest = blockIdx.x;
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
  const int64_t out_column = place.group * cut.columns + place.first_column + column;
  PYALEXNET_UNROLL
  for (int j = 0; j < RegisterTile<Tile>::kColumnVectors; ++j) {
    const int lanes = place.columns - column - Tile::column(j);
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      if (lanes > 0) tile.sums[i][j] = out.finish(tile.sums[i][j], out_column + Tile::column(j), lanes);
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
      if (lanes > 0) store_lanes(to + Tile::column(j), tile.sums[i][j], lanes, out.aligned);
    }
  }
}

// The sums of a block whose slices come by themselves: all buffers are there or asked for. A warp has two fragments, one of
// which it reads while it multiplies the other, the first one of a slice during the last one of the slice before.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_async(Left& left, Right& right, BlockMemory<Tile, Left>& memory, const Output& out,
                                     const Cut& cut, PaddedRuns out_runs) {
  using Fragment = TensorFragment<Tile, Left::kOrder>;
  const BlockPlace& place = memory.place;
  int terms_to_ask_for = place.terms;
  const auto ask_for_next = [&](unsigned buffer) {
    if (terms_to_ask_for > 0) {
      left.copy(terms_to_ask_for, memory.slices[buffer].left.at);
      right.copy(terms_to_ask_for, memory.slices[buffer].right.at);
    }
    close_copies();
    terms_to_ask_for -= Tile::kDepth;
  };
  PYALEXNET_UNROLL
  for (unsigned buffer = 0; buffer < Tile::kBuffers; ++buffer) ask_for_next(buffer);
  Tile::for_each_register_tile(place.rows, place.columns, [&](int, int, int row, int column) {
    const LanePlaces lane = lane_places<Tile, Left::kOrder>(row, column);
    RegisterTile<Tile> tile;
    tile.clear();
    unsigned buffer = 0;
    int terms = place.terms;
    const auto load = [&](Fragment& fragment, int step) {
      fragment.load(memory.slices[buffer].left.at, memory.slices[buffer].right.at, lane, step);
    };
    // Multiplies a slice, whose first fragment is `current`. The next slice's is the one behind the last then.
    const auto multiply_slice = [&](Fragment& current, Fragment& next) {
      Fragment* const fragments[] = {&current, &next};
      PYALEXNET_UNROLL
      for (int step = 0; step < Fragment::kSteps; ++step) {
        if (step + 1 < Fragment::kSteps) {
          load(*fragments[(step + 1) % 2], step + 1);
        } else if (terms > Tile::kDepth) {
          wait_for_copies<Tile::kBuffers - 2>();
          __syncthreads();  // all have theirs, and all have read the slice before
          ask_for_next(buffer);
          buffer = (buffer + 1) % Tile::kBuffers;
          load(*fragments[(step + 1) % 2], 0);
        }
        fragments[step % 2]->multiply_add_to(tile);
      }
      terms -= Tile::kDepth;
    };
    Fragment first, second;
    wait_for_copies<Tile::kBuffers - 1>();
    __syncthreads();
    load(first, 0);
    if constexpr (Fragment::kSteps % 2 == 0) {
      while (terms > 0) multiply_slice(first, second);
    } else {
      while (terms > 0) {
        multiply_slice(first, second);
        if (terms > 0) multiply_slice(second, first);
      }
    }
    write_tile(tile, row, column, out, cut, place, out_runs);
  });
}

// Whether the chip that is compiled for has no tensor cores for the tile; require_precision refuses it
// (device/tensor_cores.h).
template <class Tile>
inline constexpr bool kLacksTensorCores =
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    Tile::kPrecision != Precision::kFp32;
#else
    false;
#endif

// The block's part of the product. While a slice is multiplied the next one is on its way.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_block(const Patches& patches, const RightMatrix& right_matrix, const Output& out,
                                     const Cut& cut, PaddedRuns out_runs) {
  if constexpr (kLacksTensorCores<Tile>) return __trap();
  constexpr SliceOrder kOrder = Left::kOrder;
  auto& memory = shared_memory<BlockMemory<Tile, Left>>();
  BlockPlace& place = memory.place;
  if (threadIdx.x == 0) place.find(cut);
  __syncthreads();
  Left left(patches, place.group, place.first_row, place.rows, place.first_term, memory.left_shared);
  Right right(right_matrix, place.group * cut.columns + place.first_column, place.columns, place.first_term);
  __syncthreads();

  if constexpr (Tile::kWay == SliceWay::kAsync) {
    multiply_async<Tile>(left, right, memory, out, cut, out_runs);
  } else {
    int buffer = 0, terms = 0, terms_left = place.terms;
    const auto fetch = [&] {
      const int slice_terms = Tile::kFullSlices ? Tile::kDepth : cut.slice_terms;
      terms = Tile::kFullSlices || terms_left < slice_terms ? terms_left : slice_terms;
      terms_left -= slice_terms;
      left.fetch(terms);
      right.fetch(terms);
    };
    const auto commit = [&](int to) {
      left.commit(memory.slices[to].left.at);
      right.commit(memory.slices[to].right.at);
      __syncthreads();
    };
    // Where a register tile's first row and first column are in the current slices.
    const auto left_at = [&](int row) {
      constexpr int kRowStep = kOrder == SliceOrder::kRowMajor ? Tile::left_pitch(kOrder) : 1;
      return memory.slices[buffer].left.at + row * kRowStep;
    };
    // Of the first panel alone: nvcc makes the better code where all are counted.
    const auto right_at = [&](int column) {
      return memory.slices[buffer].right.at + column / Tile::kPanel * Tile::kPanel * Tile::kDepth +
             column % Tile::kPanel;
    };

    fetch();
    commit(0);
    if constexpr (Tile::kSumsInRegisters) {
      Tile::for_each_register_tile(place.rows, place.columns, [&](int, int, int row, int column) {
        RegisterTile<Tile> tile;
        tile.clear();
        TermByTerm<Tile, kOrder> steps;
        steps.begin(left_at(row), right_at(column));
        while (terms_left > 0) {
          fetch();
          steps.multiply_all_but_last(tile, left_at(row), right_at(column));
          buffer = 1 - buffer;
          commit(buffer);
          steps.begin(left_at(row), right_at(column));
          steps.multiply_last(tile);
        }
        steps.multiply_all_but_last(tile, left_at(row), right_at(column));
        steps.multiply_last(tile);
        write_tile(tile, row, column, out, cut, place, out_runs);
      });
    } else {
      // Adds the current slice to each register tile, then calls then(tile, m, n, row, column). The block is one thread,
      // which is done with its one buffer then.
      const auto multiply = [&](bool first_slice, auto then) {
        Tile::for_each_register_tile(place.rows, place.columns, [&](int m, int n, int row, int column) {
          RegisterTile<Tile> tile = memory.sums.take(m, n, first_slice);
          const RightPanel panel = right.panel(memory.slices[0].right.at, column, terms);
          multiply_add<Tile, kOrder>(tile, left_at(row), panel, terms);
          then(tile, m, n, row, column);
        });
      };
      bool first_slice = true;
      while (terms_left > 0) {
        multiply(first_slice,
                 [&](const RegisterTile<Tile>& tile, int m, int n, int, int) { memory.sums.tiles[m][n] = tile; });
        first_slice = false;
        fetch();
        commit(0);
      }
      multiply(first_slice, [&](RegisterTile<Tile>& tile, int, int, int row, int column) {
        write_tile(tile, row, column, out, cut, place, out_runs);
      });
    }
  }
}

}  // namespace pyalexnet
