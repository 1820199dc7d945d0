#include "kernels/patch_product.cuh"

#include "device/elementwise.cuh"
#include "device/mma.cuh"

namespace pyalexnet {

namespace {

// Where the sums go.
struct Output {
  float* data;
  int64_t pitch, rows;
  float* last_row;    // where row `rows` goes, nullptr where there is none
  const float* bias;  // nullptr: none
  bool relu;
  bool aligned;

  __host__ __device__ int64_t all_rows() const { return rows + (last_row ? 1 : 0); }

  template <int N>
  PYALEXNET_INLINE void store(int64_t row, int64_t column, Vec<N> value, int64_t lanes) const {
    if (bias) value = value + load_lanes<N>(bias + column, lanes, aligned);
    if (relu) value = pyalexnet::relu(value);
    store_lanes(row < rows ? data + row * pitch + column : last_row + column, value, lanes, aligned);
  }
};

// How a product is cut into blocks.
struct Cut {
  int64_t row_blocks;
  int column_blocks, groups;
  int64_t columns;     // of a group
  int parts;           // along the sums
  int64_t part_terms;  // a multiple of slice_terms
  int slice_terms;
  float* partial;  // parts x (all rows x all columns), nullptr for one part

  __host__ __device__ int64_t all_columns() const { return columns * groups; }
};

// The block's place in the result and along the sums. Neighbouring blocks share rows.
struct BlockPlace {
  int group, part;
  int64_t first_row, first_column, first_term, end_term;

  template <class Tile>
  static PYALEXNET_INLINE BlockPlace of_this_block(const Cut& cut, int64_t terms, Tile) {
    int64_t rest = blockIdx.x;
    BlockPlace place;
    place.first_column = rest % cut.column_blocks * Tile::kColumns;
    rest /= cut.column_blocks;
    place.first_row = rest % cut.row_blocks * Tile::kRows;
    rest /= cut.row_blocks;
    place.part = static_cast<int>(rest % cut.parts);
    place.group = static_cast<int>(rest / cut.parts);
    place.first_term = place.part * cut.part_terms;
    place.end_term = place.first_term + cut.part_terms < terms ? place.first_term + cut.part_terms : terms;
    return place;
  }
};

// sums += left x right over the block's terms. While a slice is multiplied the next one is on its way.
template <class Tile, class Left>
PYALEXNET_INLINE void multiply_slices(ThreadSums<Tile>& sums, Left left, Right<Tile> right, const BlockPlace& place,
                                      int slice_terms, int rows, int columns) {
  constexpr SliceOrder kOrder = Left::kOrder;
  __shared__ LeftSlice<Tile, kOrder> left_slices[Tile::kBuffers];
  __shared__ RightSlice<Tile> right_slices[Tile::kBuffers];

  const auto fetch = [&](int64_t term) {
    const int count = term + slice_terms < place.end_term ? slice_terms : static_cast<int>(place.end_term - term);
    left.fetch(term, count);
    right.fetch(term, count);
    return count;
  };
  int buffer = 0;
  int count = fetch(place.first_term);
  left.commit(left_slices[0].at);
  right.commit(right_slices[0].at);
  __syncthreads();
  for (int64_t term = place.first_term; term < place.end_term; term += slice_terms) {
    const bool more = term + slice_terms < place.end_term;
    int next_count = 0;
    if (more) next_count = fetch(term + slice_terms);
    Tile::for_each_register_tile(rows, columns, [&](int m, int n, int row, int column) {
      constexpr int kRowStep = kOrder == SliceOrder::kRowMajor ? Tile::kLeftPitch(kOrder) : 1;
      const float* panel = right_slices[buffer].at + column / Tile::kPanel * Tile::kPanel * Tile::kDepth;
      multiply_add<Tile, kOrder>(sums.tiles[m][n], left_slices[buffer].at + row * kRowStep,
                                 panel + column % Tile::kPanel, count);
    });
    if (!more) break;
    // With one buffer the block is one thread, which is done with it.
    buffer = (buffer + 1) % Tile::kBuffers;
    left.commit(left_slices[buffer].at);
    right.commit(right_slices[buffer].at);
    count = next_count;
    __syncthreads();
  }
}

template <class Tile>
PYALEXNET_INLINE void write_sums(const ThreadSums<Tile>& sums, const Output& out, const Cut& cut,
                                 const BlockPlace& place, SlotRows slot_rows, int64_t slots, int rows, int columns) {
  Output target = out;
  if (cut.parts > 1) {
    const int64_t pitch = cut.all_columns();
    float* partial = cut.partial + place.part * out.all_rows() * pitch;
    target = {partial, pitch, out.rows, partial + out.rows * pitch, nullptr, false, out.aligned};
  }
  Tile::for_each_register_tile(rows, columns, [&](int m, int n, int row, int column) {
    PYALEXNET_UNROLL
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      if (row + Tile::row(i) >= rows) continue;
      const int64_t slot = place.first_row + row + Tile::row(i);
      const int64_t out_row = slot < slots ? slot_rows.row(slot) : out.rows;
      if (out_row < 0) continue;
      PYALEXNET_UNROLL
      for (int j = 0; j < RegisterTile<Tile>::kColumnVectors; ++j) {
        const int at = column + Tile::column(j);
        const int64_t out_column = place.group * cut.columns + place.first_column + at;
        if (at < columns) target.store(out_row, out_column, sums.tiles[m][n].sums[i][j], columns - at);
      }
    }
  });
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 512 / Tile::kThreads)
    patches_times_matrix_kernel(Patches patches, RightMatrix right, Output out, Cut cut) {
  const BlockPlace place = BlockPlace::of_this_block(cut, patches.slots(), Tile());
  const int rows = static_cast<int>(patches.pixels - place.first_row < Tile::kRows ? patches.pixels - place.first_row : Tile::kRows);
  const int64_t columns_left = cut.columns - place.first_column;
  const int columns = static_cast<int>(columns_left < Tile::kColumns ? columns_left : Tile::kColumns);
  right.data += place.group * cut.columns + place.first_column;
  right.columns = columns;
  PYALEXNET_THREAD_SUMS ThreadSums<Tile> sums;
  sums.clear();
  multiply_slices<Tile>(sums, PatchRows<Tile>(patches, place.group, place.first_row, place.first_term), Right<Tile>(right), place,
                        cut.slice_terms, rows, columns);
  write_sums(sums, out, cut, place, {1, 1}, patches.pixels, rows, columns);
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 512 / Tile::kThreads)
    transposed_patches_times_matrix_kernel(Patches patches, RightMatrix right, Output out, Cut cut) {
  const BlockPlace place = BlockPlace::of_this_block(cut, patches.pixels, Tile());
  const int64_t rows_left = patches.slots() + (out.last_row ? 1 : 0) - place.first_row;
  const int rows = static_cast<int>(rows_left < Tile::kRows ? rows_left : Tile::kRows);
  const int64_t columns_left = cut.columns - place.first_column;
  const int columns = static_cast<int>(columns_left < Tile::kColumns ? columns_left : Tile::kColumns);
  right.data += place.group * cut.columns + place.first_column;
  right.columns = columns;
  PYALEXNET_THREAD_SUMS ThreadSums<Tile> sums;
  sums.clear();
  multiply_slices<Tile>(sums, PatchColumns<Tile>(patches, place.group, place.first_row, place.first_term), Right<Tile>(right), place,
                        cut.slice_terms, rows, columns);
  write_sums(sums, out, cut, place, {patches.run, patches.run_slots}, patches.slots(), rows, columns);
}

// out = the partial results, added in their order.
__global__ void add_parts_kernel(Output out, Cut cut) {
  constexpr int N = kVectorFloats;
  const int64_t columns = cut.all_columns(), rows = out.all_rows();
  const int64_t vectors = ceil_div(columns, N);
  const ThreadShare share = thread_share(rows * vectors);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const int64_t row = i / vectors, column = i % vectors * N, lanes = columns - column;
    const float* part = cut.partial + row * columns + column;
    Vec<N> sum = load_lanes<N>(part, lanes, out.aligned);
    for (int p = 1; p < cut.parts; ++p) {
      part += rows * columns;
      sum = sum + load_lanes<N>(part, lanes, out.aligned);
    }
    out.store(row, column, sum, lanes);
  }
}

// Calls body(Tile()) with the tile that computes fewer columns beyond the matrix's; the wide one at a draw.
template <class Body>
auto with_tile_for(int64_t columns, Body body) {
  constexpr int wide = WideTile::kPanel, narrow = NarrowTile::kPanel;
  if (ceil_div(columns, narrow) * narrow < ceil_div(columns, wide) * wide) return body(NarrowTile());
  return body(WideTile());
}

// How many parts of the sums are worth their addition. From the shape without slots' padding, so that it is the same
// whichever way an input is laid out.
template <class Tile>
int wanted_parts(int64_t rows, int64_t columns, int groups, int64_t terms, Tile) {
  const int64_t blocks = ceil_div(rows, Tile::kRows) * ceil_div(columns / groups, Tile::kColumns) * groups;
  return static_cast<int>(std::max<int64_t>(1, std::min(kWantedBlocks / blocks, terms / kMinTermsPerPart)));
}

template <class Tile>
Cut cut_product(int64_t rows, int64_t columns, int groups, int64_t terms, int parts, int slice_terms, Tile) {
  Cut cut{};
  cut.row_blocks = ceil_div(rows, Tile::kRows);
  cut.column_blocks = static_cast<int>(ceil_div(columns / groups, Tile::kColumns));
  cut.groups = groups;
  cut.columns = columns / groups;
  cut.slice_terms = slice_terms;
  cut.part_terms = ceil_div(ceil_div(terms, parts), slice_terms) * slice_terms;
  cut.parts = static_cast<int>(ceil_div(terms, cut.part_terms));
  return cut;
}

// Slices of whole taps, or of equal parts of a tap, so that runs are copied in one piece. A GPU's are always full.
template <class Tile>
int slice_of_slots(const Patches& patches, Tile) {
  if (Tile::kThreads > 1) return Tile::kDepth;
  const int run = patches.run_slots, taps = patches.slots() / run;
  if (run > Tile::kDepth) return ceil_div(run, ceil_div(run, Tile::kDepth));
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
  return parts == 1 ? 0 : parts * rows * columns * int64_t{sizeof(float)};
}

Launch blocks_of(const char* kernel_name, const Cut& cut, int threads, cudaStream_t stream) {
  const int64_t blocks = cut.row_blocks * cut.column_blocks * cut.groups * cut.parts;
  require(blocks <= INT32_MAX, kernel_name, ": the product needs ", blocks, " blocks; at most ", INT32_MAX, " can be launched");
  return {kernel_name, dim3(static_cast<unsigned>(blocks)), dim3(threads), stream};
}

void add_parts(const Output& out, const Cut& cut, cudaStream_t stream) {
  if (cut.parts == 1) return;
  const int64_t vectors = out.all_rows() * ceil_div(cut.all_columns(), kVectorFloats);
  launch<add_parts_kernel>(share_out("add_parts_kernel", vectors, kVectorFloats * 4 * (cut.parts + 1), stream), out, cut);
}

}  // namespace

void patches_times_matrix(float* out, int64_t out_pitch, const Patches& patches, const float* right, int64_t columns,
                          int groups, const float* bias, bool relu, void* workspace, cudaStream_t stream) {
  with_tile_for(columns / groups, [&](auto tile) {
    using Tile = decltype(tile);
    const int parts = parts_of_rows(patches, columns, groups, tile);
    Cut cut = cut_product(patches.pixels, columns, groups, patches.slots(), parts, slice_of_slots(patches, tile), tile);
    cut.partial = static_cast<float*>(workspace);
    const RightMatrix matrix{right, columns, cut.columns, patches.slots(), {patches.run, patches.run_slots},
                             vectors_aligned(right, cut.columns)};
    const bool aligned = vectors_aligned(out, out_pitch, cut.columns) && vectors_aligned(bias);
    const Output output{out, out_pitch, patches.pixels, nullptr, bias, relu, aligned};
    launch<patches_times_matrix_kernel<Tile>>(blocks_of("patches_times_matrix_kernel", cut, Tile::kThreads, stream),
                                              patches, matrix, output, cut);
    add_parts(output, cut, stream);
  });
}

void transposed_patches_times_matrix(float* out, float* sums, const Patches& patches, const float* right,
                                     int64_t right_pitch, int64_t columns, int groups, void* workspace,
                                     cudaStream_t stream) {
  with_tile_for(columns / groups, [&](auto tile) {
    using Tile = decltype(tile);
    const int parts = parts_of_columns(patches, columns, groups, tile);
    Cut cut = cut_product(patches.slots() + 1, columns, groups, patches.pixels, parts, Tile::kDepth, tile);
    cut.partial = static_cast<float*>(workspace);
    const RightMatrix matrix{right, right_pitch, cut.columns, patches.pixels, {1, 1},
                             vectors_aligned(right, right_pitch, cut.columns)};
    const bool aligned = vectors_aligned(out, cut.columns) && vectors_aligned(sums);
    const Output output{out, columns, patches.seen(), sums, nullptr, false, aligned};
    launch<transposed_patches_times_matrix_kernel<Tile>>(
        blocks_of("transposed_patches_times_matrix_kernel", cut, Tile::kThreads, stream), patches, matrix, output, cut);
    add_parts(output, cut, stream);
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
