// What a block computes of out = left right, for left = P or P^T, is this loop over tiles of the plan's block size:
//
//   for each part of the sums, group, tile of rows, tile of columns:            a block
//     for each slice of at most kDepth terms of the part:                       fetch, commit
//       for each row and column of the tile, term of the slice:                 multiply_add
//         sums[row][column] += left[row][term] * right[term][column]
//     out[rows][columns] = relu(sums + bias), or the part's sums                write_tile
//   out = relu(the sum over parts + bias), where there are several              add_parts_kernel
#include "kernels/patch_product.cuh"

#include "device/elementwise.cuh"
#include "device/mma.cuh"
#include "device/sizes.h"
#include "device/slices.cuh"

namespace pyalexnet {

namespace {

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

// The block's part of the product. While a slice is multiplied the next one is on its way.
template <class Tile, class Left, class Right>
PYALEXNET_INLINE void multiply_block(const Patches& patches, const RightMatrix& right_matrix, const Output& out,
                                     const Cut& cut, PaddedRuns out_runs) {
  constexpr SliceOrder kOrder = Left::kOrder;
  auto& memory = shared_memory<BlockMemory<Tile, Left>>();
  BlockPlace& place = memory.place;
  if (threadIdx.x == 0) place.find(cut);
  __syncthreads();
  Left left(patches, place.group, place.first_row, place.rows, place.first_term, memory.left_shared);
  Right right(right_matrix, place.group * cut.columns + place.first_column, place.columns, place.first_term);
  __syncthreads();

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
  const auto right_at = [&](int column) {  // of the first panel alone: nvcc makes the better code where all are counted
    return memory.slices[buffer].right.at + column / Tile::kPanel * Tile::kPanel * Tile::kDepth + column % Tile::kPanel;
  };

  fetch();
  commit(0);
  if constexpr (Tile::kSumsInRegisters) {
    Tile::for_each_register_tile(place.rows, place.columns, [&](int, int, int row, int column) {
      RegisterTile<Tile> tile;
      tile.clear();
      TermByTerm<Tile, kOrder> by_term;
      by_term.begin(left_at(row), right_at(column));
      while (terms_left > 0) {
        fetch();
        by_term.multiply_all_but_last(tile, left_at(row), right_at(column));
        buffer = 1 - buffer;
        commit(buffer);
        by_term.begin(left_at(row), right_at(column));
        by_term.multiply_last(tile);
      }
      by_term.multiply_all_but_last(tile, left_at(row), right_at(column));
      by_term.multiply_last(tile);
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

template <class Tile, Access access>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor)
    patches_times_matrix_kernel(Patches patches, RightMatrix right, Output out, Cut cut) {
  multiply_block<Tile, PatchRows<Tile, access>, RightRows<Tile, access>>(patches, right, out, cut, kUnpadded);
}

template <class Tile, Access access>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor)
    transposed_patches_times_matrix_kernel(Patches patches, RightMatrix right, Output out, Cut cut) {
  const PaddedRuns runs{patches.run, patches.padded_run};
  multiply_block<Tile, PatchColumns<Tile, access>, RightRows<Tile, access>>(patches, right, out, cut, runs);
}

// out = the parts of `partial`, added in their order.
__global__ void add_parts_kernel(Output out, Output partial, int64_t columns, int parts) {
  constexpr int N = kVectorFloats;
  const int64_t vectors = ceil_div(columns, N);
  const ThreadShare share = thread_share(out.all_rows() * vectors);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const int64_t row = i / vectors, column = i % vectors * N;
    const int lanes = columns - column < N ? static_cast<int>(columns - column) : N;
    Vec<N> sum = load_lanes<N>(partial.row(0, row) + column, lanes, partial.aligned);
    for (int p = 1; p < parts; ++p) sum = sum + load_lanes<N>(partial.row(p, row) + column, lanes, partial.aligned);
    store_lanes(out.row(0, row) + column, out.finish(sum, column, lanes), lanes, out.aligned);
  }
}

// Calls body(Tile()) with the plan's tile.
template <class Body>
void with_tile_of(const ProductPlan& plan, Body body) {
  for_each_tile([&](int index, auto tile) {
    if (index == plan.tile) body(tile);
  });
}

// Calls body(access), a constant, with the best access that both matrices allow.
template <class Tile, class Body>
void with_access_to(const Patches& patches, const RightMatrix& right, Tile, Body body) {
  if constexpr (Tile::kStaged) {
    if (patches.reads_quads(Tile::kDepth) && right.reads_quads(Tile::kDepth)) {
      return body(std::integral_constant<Access, Access::kQuads>());
    }
    if (patches.reads_vectors(Tile::kDepth) && right.reads_vectors(Tile::kDepth)) {
      return body(std::integral_constant<Access, Access::kVectors>());
    }
  }
  body(std::integral_constant<Access, Access::kAny>());
}

Cut cut_product(const ProductPlan& plan, int64_t rows, int64_t columns, int64_t groups, int64_t terms,
                int slice_terms) {
  Cut cut{};
  cut.block_rows = plan.block_rows, cut.block_columns = plan.block_columns;
  cut.rows = rows;
  cut.row_blocks = ceil_div(rows, cut.block_rows);
  cut.columns = columns / groups;
  cut.column_blocks = static_cast<int>(ceil_div(cut.columns, cut.block_columns));
  cut.groups = static_cast<int>(groups);
  cut.terms = terms;
  cut.part_terms = static_cast<int>(ceil_div(ceil_div(terms, plan.parts), slice_terms) * slice_terms);
  cut.parts = static_cast<int>(ceil_div(terms, cut.part_terms));
  cut.slice_terms = slice_terms;
  return cut;
}

// The terms of a slice of P's columns: whole taps where several fit, so that runs are copied in one piece, unless slices
// are always full.
template <class Tile>
int slice_of_taps(const Patches& patches, Tile) {
  const int run = patches.padded_run, taps = patches.padded_columns() / run;
  if (Tile::kFullSlices || run > Tile::kDepth) return Tile::kDepth;
  const int slices = ceil_div(taps, Tile::kDepth / run);
  return ceil_div(taps, slices) * run;
}

template <class Tile, class Left>
Launch blocks_of(const char* kernel_name, const Cut& cut, cudaStream_t stream) {
  const int64_t blocks = product({cut.row_blocks, cut.column_blocks, cut.groups, cut.parts}, kernel_name,
                                 " would need more than 2**63 - 1 blocks");
  require(blocks <= INT32_MAX, kernel_name, " would need ", blocks, " blocks; it must be at most ", INT32_MAX);
  return {kernel_name, dim3(static_cast<unsigned>(blocks)), dim3(Tile::kThreads), stream,
          sizeof(BlockMemory<Tile, Left>)};
}

// Runs kernel(patches, right, out, cut) and, where it leaves parts of the sums in the workspace, adds them.
template <auto kernel>
void launch_product(const Launch& product, const Patches& patches, const RightMatrix& right, const Output& out,
                    const Cut& cut, void* workspace) {
  if (cut.parts == 1) return launch<kernel>(product, patches, right, out, cut);

  const int64_t columns = cut.columns * cut.groups, rows = out.all_rows();
  float* const memory = static_cast<float*>(workspace);
  const Output partial{.data = memory,
                       .pitch = columns,
                       .rows = out.rows,
                       .part_stride = rows * columns,
                       .last_row = out.last_row ? memory + out.rows * columns : nullptr,
                       .bias = nullptr,
                       .relu = false,
                       .aligned = out.aligned && vectors_aligned(memory, columns)};
  launch<kernel>(product, patches, right, partial, cut);
  const int64_t bytes_per_vector = kVectorFloats * int64_t{sizeof(float)} * (cut.parts + 1);
  launch<add_parts_kernel>(
      share_out("add_parts_kernel", rows * ceil_div(columns, kVectorFloats), bytes_per_vector, product.stream), out,
      partial, columns, cut.parts);
}

}  // namespace

void patches_times_matrix(const ProductPlan& plan, float* out, int64_t out_pitch, const Patches& patches,
                          const float* right, int64_t columns, int64_t groups, const float* bias, bool relu,
                          void* workspace, cudaStream_t stream) {
  with_tile_of(plan, [&]<class Tile>(Tile tile) {
    const int64_t terms = patches.padded_columns();
    const Cut cut = cut_product(plan, patches.pixels, columns, groups, terms, slice_of_taps(patches, tile));
    const RightMatrix matrix{
        right, columns, terms, {patches.run, patches.padded_run}, vectors_aligned(right, cut.columns)};
    const bool aligned = vectors_aligned(out, out_pitch, cut.columns) && vectors_aligned(bias);
    const Output output{out, out_pitch, patches.pixels, 0, nullptr, bias, relu, aligned};
    with_access_to(patches, matrix, tile, [&](auto access) {
      const char* const name = "patches_times_matrix_kernel";
      const Launch blocks = blocks_of<Tile, PatchRows<Tile, access>>(name, cut, stream);
      launch_product<patches_times_matrix_kernel<Tile, access>>(blocks, patches, matrix, output, cut, workspace);
    });
  });
}

void transposed_patches_times_matrix(const ProductPlan& plan, float* out, float* sums, const Patches& patches,
                                     const float* right, int64_t right_pitch, int64_t columns, int64_t groups,
                                     void* workspace, cudaStream_t stream) {
  with_tile_of(plan, [&]<class Tile>(Tile tile) {
    const int64_t rows = patches.padded_columns() + (sums ? 1 : 0);
    const Cut cut = cut_product(plan, rows, columns, groups, patches.pixels, Tile::kDepth);
    const RightMatrix matrix{right, right_pitch, patches.pixels, kUnpadded,
                             vectors_aligned(right, right_pitch, cut.columns)};
    const bool aligned = vectors_aligned(out, cut.columns) && vectors_aligned(sums);
    const Output output{out, columns, patches.columns(), 0, sums, nullptr, false, aligned};
    with_access_to(patches, matrix, tile, [&](auto access) {
      const char* const name = "transposed_patches_times_matrix_kernel";
      const Launch blocks = blocks_of<Tile, PatchColumns<Tile, access>>(name, cut, stream);
      launch_product<transposed_patches_times_matrix_kernel<Tile, access>>(blocks, patches, matrix, output, cut,
                                                                           workspace);
    });
  });
}

}  // namespace pyalexnet
