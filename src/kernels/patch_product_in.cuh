// The kernels of kernels/patch_product.cuh for the tiles of one precision, and how they are launched. Each precision's
// are compiled by a file of their own, side by side.
#pragma once

#include "device/elementwise.cuh"
#include "device/product_block.cuh"
#include "device/sizes.h"
#include "kernels/patch_product.cuh"

namespace pyalexnet {

// out = the parts of `partial`, added in their order. `columns` are a group's.
void add_parts(const Output& out, const Output& partial, int64_t columns, int groups, int parts, cudaStream_t stream);

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

// Calls body(Tile()) with the plan's tile, one of those for a precision.
template <Precision precision, class Body>
void with_tile_of(const ProductPlan& plan, Body body) {
  [&]<class... Tile>(TileList<Tile...>) {
    int index = 0;
    ((index++ == plan.tile ? body(Tile()) : void()), ...);
  }(typename TilesOf<precision>::List());
}

// Calls body(access), a constant, with the best access that both matrices allow.
template <template <class, Access> class Left, class Tile, class Body>
void with_access_to(const Patches& patches, const RightMatrix& right, Tile, Body body) {
  constexpr bool kInPlace = Tile::kWay == SliceWay::kCopied && !Tile::kWide;
  if constexpr (kInPlace || Tile::kWay == SliceWay::kWords) {
    if (Left<Tile, Access::kInside>::fits(patches, right)) {
      return body(std::integral_constant<Access, Access::kInside>());
    }
  } else if constexpr (!Tile::kWide) {
    if (patches.reads_quads(Left<Tile, Access::kQuads>::kSteps) && right.reads_quads(Tile::kDepth)) {
      return body(std::integral_constant<Access, Access::kQuads>());
    }
    if (patches.reads_vectors(Left<Tile, Access::kVectors>::kSteps) && right.reads_vectors(Tile::kDepth)) {
      return body(std::integral_constant<Access, Access::kVectors>());
    }
  }
  body(std::integral_constant<Access, Access::kAny>());
}

inline Cut cut_product(const ProductPlan& plan, int64_t rows, int64_t columns, int64_t groups, int64_t terms,
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
                       .group_stride = cut.columns,
                       .rows = out.rows,
                       .part_stride = rows * columns,
                       .last_row = out.last_row ? memory + out.rows * columns : nullptr,
                       .bias = nullptr,
                       .relu = false,
                       .aligned = out.aligned && vectors_aligned(memory, columns, cut.columns)};
  launch<kernel>(product, patches, right, partial, cut);
  add_parts(out, partial, cut.columns, cut.groups, cut.parts, product.stream);
}

inline bool is_aligned(const float* matrix, const MatrixLayout& layout, int64_t group_columns) {
  return vectors_aligned(matrix, layout.pitch, layout.group_stride, group_columns);
}

// The launchers of kernels/patch_product.cuh for a plan of the tiles of one precision.
template <Precision precision>
void patches_times_matrix_in(const ProductPlan& plan, float* out, const MatrixLayout& out_layout,
                             const Patches& unpadded, const float* right, const MatrixLayout& right_layout,
                             int64_t columns, int64_t groups, const float* bias, bool relu, void* workspace,
                             cudaStream_t stream) {
  with_tile_of<precision>(plan, [&]<class Tile>(Tile tile) {
    const Patches patches = unpadded.padded_to(Tile::kRunMultiple);
    const int64_t terms = patches.padded_columns();
    const Cut cut = cut_product(plan, patches.pixels, columns, groups, terms, slice_of_taps(patches, tile));
    const RightMatrix matrix{right,
                             right_layout.pitch,
                             right_layout.group_stride,
                             terms,
                             {patches.run, patches.padded_run},
                             is_aligned(right, right_layout, cut.columns),
                             patches.precision};
    const bool aligned = is_aligned(out, out_layout, cut.columns) && vectors_aligned(bias, cut.columns);
    const Output output{.data = out,
                        .pitch = out_layout.pitch,
                        .group_stride = out_layout.group_stride,
                        .rows = patches.pixels,
                        .part_stride = 0,
                        .last_row = nullptr,
                        .bias = bias,
                        .relu = relu,
                        .aligned = aligned};
    with_access_to<PatchRows>(patches, matrix, tile, [&](auto access) {
      const char* const name = "patches_times_matrix_kernel";
      const Launch blocks = blocks_of<Tile, PatchRows<Tile, access>>(name, cut, stream);
      launch_product<patches_times_matrix_kernel<Tile, access>>(blocks, patches, matrix, output, cut, workspace);
    });
  });
}

template <Precision precision>
void transposed_patches_times_matrix_in(const ProductPlan& plan, float* out, float* sums,
                                        const MatrixLayout& out_layout, const Patches& unpadded, const float* right,
                                        const MatrixLayout& right_layout, int64_t columns, int64_t groups,
                                        void* workspace, cudaStream_t stream) {
  with_tile_of<precision>(plan, [&]<class Tile>(Tile tile) {
    const Patches patches = unpadded.padded_to(Tile::kRunMultiple);
    const int64_t rows = patches.padded_columns() + (sums ? 1 : 0);
    const Cut cut = cut_product(plan, rows, columns, groups, patches.pixels, Tile::kDepth);
    const RightMatrix matrix{right,
                             right_layout.pitch,
                             right_layout.group_stride,
                             patches.pixels,
                             kUnpadded,
                             is_aligned(right, right_layout, cut.columns),
                             patches.precision};
    const bool aligned = is_aligned(out, out_layout, cut.columns) && is_aligned(sums, out_layout, cut.columns);
    const Output output{.data = out,
                        .pitch = out_layout.pitch,
                        .group_stride = out_layout.group_stride,
                        .rows = patches.columns(),
                        .part_stride = 0,
                        .last_row = sums,
                        .bias = nullptr,
                        .relu = false,
                        .aligned = aligned,
                        .past_caches = outgrow_caches(rows * columns)};
    with_access_to<PatchColumns>(patches, matrix, tile, [&](auto access) {
      const char* const name = "transposed_patches_times_matrix_kernel";
      const Launch blocks = blocks_of<Tile, PatchColumns<Tile, access>>(name, cut, stream);
      launch_product<transposed_patches_times_matrix_kernel<Tile, access>>(blocks, patches, matrix, output, cut,
                                                                           workspace);
    });
  });
}

// Compiled in kernels/patch_product.cu and, for tensor cores, in a file each.
#define PYALEXNET_PATCH_PRODUCT_IN(EXTERN, precision)                                                                 \
  EXTERN template void patches_times_matrix_in<precision>(const ProductPlan&, float*, const MatrixLayout&,            \
                                                          const Patches&, const float*, const MatrixLayout&, int64_t, \
                                                          int64_t, const float*, bool, void*, cudaStream_t);          \
  EXTERN template void transposed_patches_times_matrix_in<precision>(                                                 \
      const ProductPlan&, float*, float*, const MatrixLayout&, const Patches&, const float*, const MatrixLayout&,     \
      int64_t, int64_t, void*, cudaStream_t)

}  // namespace pyalexnet
