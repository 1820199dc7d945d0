#include "kernels/patch_product.cuh"

#include "device/elementwise.cuh"
#include "device/mma.cuh"
#include "device/sizes.h"

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

  template <class Tile>
  PYALEXNET_INLINE void find(const Cut& cut, Tile) {
    unsigned rest = blockIdx.x;
    first_column = static_cast<int64_t>(rest % cut.column_blocks) * Tile::kColumns;
    rest /= cut.column_blocks;
    first_row = rest % cut.row_blocks * Tile::kRows;
    rest /= cut.row_blocks;
    part = rest % cut.parts;
    group = rest / cut.parts;
    first_term = static_cast<int64_t>(part) * cut.part_terms;
    rows = at_most(Tile::kRows, cut.rows - first_row);
    columns = at_most(Tile::kColumns, cut.columns - first_column);
    terms = at_most(cut.part_terms, cut.terms - first_term);
  }

  static PYALEXNET_INLINE int at_most(int most, int64_t value) { return value < most ? static_cast<int>(value) : most; }
};

// What the threads of a block share.
template <class Tile, class Left>
struct BlockMemory {
  LeftSlice<Tile, Left::kOrder> left[Tile::kBuffers];
  RightSlice<Tile> right[Tile::kBuffers];
  typename Left::Shared left_shared;
  BlockPlace place;
};

// A block of one thread keeps its sums there too.
template <class Tile, class Left>
struct BlockMemoryWithSums : BlockMemory<Tile, Left> {
  ThreadSums<Tile> sums;
};

// Writes a register tile's sums to their places. Row r of the result is row out_rows.row(r) of the output, the last
// one its last row.
template <class Tile>
PYALEXNET_INLINE void write_tile(RegisterTile<Tile>& tile, int row, int column, const Output& out, const Cut& cut,
                                 const BlockPlace& place, SlotRows out_rows) {
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
    const int64_t out_row = out.last_row && r == cut.rows - 1 ? out.rows : out_rows.row(r);
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
PYALEXNET_INLINE void multiply_block(ThreadSums<Tile>& sums, BlockMemory<Tile, Left>& memory, const Patches& patches,
                                     const RightMatrix& right_matrix, const Output& out, const Cut& cut,
                                     SlotRows out_rows) {
  constexpr SliceOrder kOrder = Left::kOrder;
  BlockPlace& place = memory.place;
  if (threadIdx.x == 0) place.find(cut, Tile());
  __syncthreads();
  Left left(patches, place.group, place.first_row, place.first_term, memory.left_shared);
  Right right(right_matrix, place.group * cut.columns + place.first_column, place.columns, place.first_term);
  __syncthreads();

  int buffer = 0, terms = 0, terms_left = place.terms;
  const auto fetch = [&] {
    terms = terms_left < cut.slice_terms ? terms_left : cut.slice_terms;
    terms_left -= cut.slice_terms;
    left.fetch(terms);
    right.fetch(terms);
  };
  const auto commit = [&](int to) {
    left.commit(memory.left[to].at);
    right.commit(memory.right[to].at);
    __syncthreads();
  };
  // Adds the current slice to each register tile, then calls then(tile, m, n, row, column). Sums that wait in memory
  // between slices are not there before the first one.
  if constexpr (Tile::kThreads > 1) sums.tiles[0][0].clear();
  const auto multiply = [&](int count, bool first, auto then) {
    Tile::for_each_register_tile(place.rows, place.columns, [&](int m, int n, int row, int column) {
      constexpr int kRowStep = kOrder == SliceOrder::kRowMajor ? Tile::left_pitch(kOrder) : 1;
      const float* const panel = memory.right[buffer].at + column / Tile::kPanel * Tile::kPanel * Tile::kDepth;
      RegisterTile<Tile> tile;
      if (Tile::kThreads == 1 && first) {
        tile.clear();
      } else {
        tile = sums.tiles[m][n];
      }
      multiply_add<Tile, kOrder>(tile, memory.left[buffer].at + row * kRowStep, panel + column % Tile::kPanel, count);
      then(tile, m, n, row, column);
    });
  };

  fetch();
  commit(0);
  bool first = true;
  while (terms_left > 0) {
    const int count = terms;
    fetch();
    multiply(count, first, [&](const RegisterTile<Tile>& tile, int m, int n, int, int) { sums.tiles[m][n] = tile; });
    first = false;
    // With one buffer the block is one thread, which is done with it.
    buffer = (buffer + 1) % Tile::kBuffers;
    commit(buffer);
  }
  multiply(terms, first, [&](RegisterTile<Tile>& tile, int, int, int row, int column) {
    write_tile(tile, row, column, out, cut, place, out_rows);
  });
}

template <class Tile, class Left, class Right>
PYALEXNET_INLINE void product_block(const Patches& patches, const RightMatrix& right, const Output& out, const Cut& cut,
                                    SlotRows out_rows) {
  if constexpr (Tile::kThreads == 1) {
    auto& memory = shared_memory<BlockMemoryWithSums<Tile, Left>>();
    multiply_block<Tile, Left, Right>(memory.sums, memory, patches, right, out, cut, out_rows);
  } else {
    ThreadSums<Tile> sums;
    auto& memory = shared_memory<BlockMemory<Tile, Left>>();
    multiply_block<Tile, Left, Right>(sums, memory, patches, right, out, cut, out_rows);
  }
}

template <class Tile, Access access>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor)
    patches_times_matrix_kernel(Patches patches, RightMatrix right, Output out, Cut cut) {
  product_block<Tile, PatchRows<Tile, access>, RightRows<Tile, access>>(patches, right, out, cut, kNoGaps);
}

template <class Tile, Access access>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksPerMultiprocessor)
    transposed_patches_times_matrix_kernel(Patches patches, RightMatrix right, Output out, Cut cut) {
  product_block<Tile, PatchColumns<Tile, access>, RightRows<Tile, access>>(patches, right, out, cut,
                                                                           {patches.run, patches.run_slots});
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

// Calls body(Tile()) with the tile that computes fewer columns beyond the matrix's; the wide one at a draw.
template <class Body>
auto with_tile_for(int64_t columns, Body body) {
  constexpr int wide = WideTile::kPanel, narrow = NarrowTile::kPanel;
  if (ceil_div(columns, narrow) * narrow < ceil_div(columns, wide) * wide) return body(NarrowTile());
  return body(WideTile());
}

// Calls body(access), a constant, with the best access that both matrices allow.
template <class Body>
void with_access_to(const Patches& patches, const RightMatrix& right, int slice_terms, Body body) {
  if constexpr (!kRunsOnCores) {
    if (patches.reads_vectors(slice_terms) && right.reads_vectors(slice_terms)) {
      return body(std::integral_constant<Access, Access::kVectors>());
    }
  }
  body(std::integral_constant<Access, Access::kAny>());
}

// How many parts of the sums are worth their addition. From the shape without slots' padding, so that it is the same
// whichever way an input is laid out.
template <class Tile>
int wanted_parts(int64_t rows, int64_t columns, int groups, int64_t terms, Tile) {
  const int64_t blocks = ceil_div(rows, Tile::kRows) * ceil_div(columns / groups, Tile::kColumns) * groups;
  const int64_t least = ceil_div(terms, kMaxTerms / 2);
  const int64_t most = std::max(least, std::min(kMostBlocks / blocks, terms / kMinTermsPerPart));
  return static_cast<int>(Tile::best_parts(rows * columns, blocks, terms, least, most));
}

template <class Tile>
Cut cut_product(int64_t rows, int64_t columns, int groups, int64_t terms, int parts, int slice_terms, Tile) {
  Cut cut{};
  cut.rows = rows;
  cut.row_blocks = ceil_div(rows, Tile::kRows);
  cut.columns = columns / groups;
  cut.column_blocks = static_cast<int>(ceil_div(cut.columns, Tile::kColumns));
  cut.groups = groups;
  cut.terms = terms;
  cut.part_terms = static_cast<int>(ceil_div(ceil_div(terms, parts), slice_terms) * slice_terms);
  cut.parts = static_cast<int>(ceil_div(terms, cut.part_terms));
  cut.slice_terms = slice_terms;
  return cut;
}

// Slices of whole taps where several fit, so that runs are copied in one piece. A GPU's are always full.
template <class Tile>
int slice_of_slots(const Patches& patches, Tile) {
  const int run = patches.run_slots, taps = patches.slots() / run;
  if (Tile::kThreads > 1 || run > Tile::kDepth) return Tile::kDepth;
  const int slices = ceil_div(taps, Tile::kDepth / run);
  return ceil_div(taps, slices) * run;
}

template <class Tile>
int parts_of_rows(const Patches& p, int64_t columns, int groups, Tile tile) {
  return wanted_parts(p.pixels, columns, groups, p.seen(), tile);
}

template <class Tile>
int parts_of_columns(const Patches& p, int64_t columns, int groups, Tile tile) {
  return wanted_parts(p.seen() + 1, columns, groups, p.pixels, tile);
}

int64_t partial_bytes(int parts, int64_t rows, int64_t columns) {
  return parts == 1 ? 0 : float_bytes("workspace", {parts, rows, columns});
}

template <class Tile, class Left>
Launch blocks_of(const char* kernel_name, const Cut& cut, cudaStream_t stream) {
  using Memory = std::conditional_t<Tile::kThreads == 1, BlockMemoryWithSums<Tile, Left>, BlockMemory<Tile, Left>>;
  const int64_t blocks = product({cut.row_blocks, cut.column_blocks, cut.groups, cut.parts}, kernel_name,
                                 " would need more than 2**63 - 1 blocks");
  require(blocks <= INT32_MAX, kernel_name, " would need ", blocks, " blocks; it must be at most ", INT32_MAX);
  return {kernel_name, dim3(static_cast<unsigned>(blocks)), dim3(Tile::kThreads), stream, sizeof(Memory)};
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

void patches_times_matrix(float* out, int64_t out_pitch, const Patches& patches, const float* right, int64_t columns,
                          int groups, const float* bias, bool relu, void* workspace, cudaStream_t stream) {
  with_tile_for(columns / groups, [&](auto tile) {
    using Tile = decltype(tile);
    const int parts = parts_of_rows(patches, columns, groups, tile);
    const Cut cut =
        cut_product(patches.pixels, columns, groups, patches.slots(), parts, slice_of_slots(patches, tile), tile);
    const RightMatrix matrix{
        right, columns, patches.slots(), {patches.run, patches.run_slots}, vectors_aligned(right, cut.columns)};
    const bool aligned = vectors_aligned(out, out_pitch, cut.columns) && vectors_aligned(bias);
    const Output output{out, out_pitch, patches.pixels, 0, nullptr, bias, relu, aligned};
    with_access_to(patches, matrix, Tile::kDepth, [&](auto access) {
      const char* const name = "patches_times_matrix_kernel";
      const Launch blocks = blocks_of<Tile, PatchRows<Tile, access>>(name, cut, stream);
      launch_product<patches_times_matrix_kernel<Tile, access>>(blocks, patches, matrix, output, cut, workspace);
    });
  });
}

void transposed_patches_times_matrix(float* out, float* sums, const Patches& patches, const float* right,
                                     int64_t right_pitch, int64_t columns, int groups, void* workspace,
                                     cudaStream_t stream) {
  with_tile_for(columns / groups, [&](auto tile) {
    using Tile = decltype(tile);
    const int parts = parts_of_columns(patches, columns, groups, tile);
    const Cut cut =
        cut_product(patches.slots() + (sums ? 1 : 0), columns, groups, patches.pixels, parts, Tile::kDepth, tile);
    const RightMatrix matrix{right, right_pitch, patches.pixels, kNoGaps,
                             vectors_aligned(right, right_pitch, cut.columns)};
    const bool aligned = vectors_aligned(out, cut.columns) && vectors_aligned(sums);
    const Output output{out, columns, patches.seen(), 0, sums, nullptr, false, aligned};
    with_access_to(patches, matrix, Tile::kDepth, [&](auto access) {
      const char* const name = "transposed_patches_times_matrix_kernel";
      const Launch blocks = blocks_of<Tile, PatchColumns<Tile, access>>(name, cut, stream);
      launch_product<transposed_patches_times_matrix_kernel<Tile, access>>(blocks, patches, matrix, output, cut,
                                                                           workspace);
    });
  });
}

int64_t patches_times_matrix_workspace_bytes(const Patches& patches, int64_t columns, int groups) {
  return with_tile_for(columns / groups, [&](auto tile) {
    return partial_bytes(parts_of_rows(patches, columns, groups, tile), patches.pixels, columns);
  });
}

int64_t transposed_patches_times_matrix_workspace_bytes(const Patches& patches, int64_t columns, int groups) {
  return with_tile_for(columns / groups, [&](auto tile) {
    return partial_bytes(parts_of_columns(patches, columns, groups, tile), patches.seen() + 1, columns);
  });
}

}  // namespace pyalexnet
