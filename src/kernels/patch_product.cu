#include "kernels/patch_product.cuh"

#include "kernels/patch_product_in.cuh"

namespace pyalexnet {

namespace {

// `columns` are a group's, in `partial` behind those of the group before.
__global__ void add_parts_kernel(Output out, Output partial, int64_t columns, int groups, int parts) {
  constexpr int N = kVectorFloats;
  const int64_t vectors = ceil_div(columns, N);
  const ThreadShare share = thread_share(out.all_rows() * groups * vectors);
  for (int64_t i = share.begin; i < share.end; i += share.step) {
    const int64_t row = i / vectors / groups, group = i / vectors % groups, column = i % vectors * N;
    const int lanes = columns - column < N ? static_cast<int>(columns - column) : N;
    const int64_t from = group * columns + column;
    Vec<N> sum = load_lanes<N>(partial.row(0, row) + from, lanes, partial.aligned);
    for (int p = 1; p < parts; ++p) sum = sum + load_lanes<N>(partial.row(p, row) + from, lanes, partial.aligned);
    store_lanes(out.row(0, row) + group * out.group_stride + column, out.finish(sum, from, lanes), lanes, out.aligned);
  }
}

// Cores round what they copy to the precision, GPUs by their tiles.
Patches rounded(const Patches& patches, Precision precision) {
  Patches result = patches;
  result.precision = precision;
  return result;
}

}  // namespace

void add_parts(const Output& out, const Output& partial, int64_t columns, int groups, int parts, cudaStream_t stream) {
  const int64_t vectors = out.all_rows() * groups * ceil_div(columns, kVectorFloats);
  const int64_t bytes_per_vector = kVectorFloats * int64_t{sizeof(float)} * (parts + 1);
  launch<add_parts_kernel>(share_out("add_parts_kernel", vectors, bytes_per_vector, stream), out, partial, columns,
                           groups, parts);
}

PYALEXNET_PATCH_PRODUCT_IN(, Precision::kFp32);
PYALEXNET_PATCH_PRODUCT_IN(extern, Precision::kTf32);
PYALEXNET_PATCH_PRODUCT_IN(extern, Precision::kBf16);
PYALEXNET_PATCH_PRODUCT_IN(extern, Precision::kTf32x3);

void patches_times_matrix(const ProductPlan& plan, float* out, const MatrixLayout& out_layout, const Patches& patches,
                          const float* right, const MatrixLayout& right_layout, int64_t columns, int64_t groups,
                          const float* bias, bool relu, void* workspace, cudaStream_t stream) {
  with_tiles_for(plan.precision, [&](auto precision) {
    patches_times_matrix_in<precision()>(plan, out, out_layout, rounded(patches, plan.precision), right, right_layout,
                                         columns, groups, bias, relu, workspace, stream);
  });
}

void transposed_patches_times_matrix(const ProductPlan& plan, float* out, float* sums, const MatrixLayout& out_layout,
                                     const Patches& patches, const float* right, const MatrixLayout& right_layout,
                                     int64_t columns, int64_t groups, void* workspace, cudaStream_t stream) {
  with_tiles_for(plan.precision, [&](auto precision) {
    transposed_patches_times_matrix_in<precision()>(plan, out, sums, out_layout, rounded(patches, plan.precision),
                                                    right, right_layout, columns, groups, workspace, stream);
  });
}

}  // namespace pyalexnet
