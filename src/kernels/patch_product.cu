#include "kernels/patch_product.cuh"

#include "kernels/patch_product_in.cuh"

namespace pyalexnet {

namespace {

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

// Cores round what they copy to the precision, GPUs by their tiles.
Patches rounded(const Patches& patches, Precision precision) {
  Patches result = patches;
  result.precision = precision;
  return result;
}

}  // namespace

void add_parts(const Output& out, const Output& partial, int64_t columns, int parts, cudaStream_t stream) {
  const int64_t vectors = out.all_rows() * ceil_div(columns, kVectorFloats);
  const int64_t bytes_per_vector = kVectorFloats * int64_t{sizeof(float)} * (parts + 1);
  launch<add_parts_kernel>(share_out("add_parts_kernel", vectors, bytes_per_vector, stream), out, partial, columns,
                           parts);
}

PYALEXNET_PATCH_PRODUCT_IN(, Precision::kFp32);
PYALEXNET_PATCH_PRODUCT_IN(extern, Precision::kTf32);
PYALEXNET_PATCH_PRODUCT_IN(extern, Precision::kBf16);
PYALEXNET_PATCH_PRODUCT_IN(extern, Precision::kTf32x3);

void patches_times_matrix(const ProductPlan& plan, float* out, int64_t out_pitch, const Patches& patches,
                          const float* right, int64_t columns, int64_t groups, const float* bias, bool relu,
                          void* workspace, cudaStream_t stream) {
  with_tiles_for(plan.precision, [&](auto precision) {
    patches_times_matrix_in<precision()>(plan, out, out_pitch, rounded(patches, plan.precision), right, columns, groups,
                                         bias, relu, workspace, stream);
  });
}

void transposed_patches_times_matrix(const ProductPlan& plan, float* out, float* sums, const Patches& patches,
                                     const float* right, int64_t right_pitch, int64_t columns, int64_t groups,
                                     void* workspace, cudaStream_t stream) {
  with_tiles_for(plan.precision, [&](auto precision) {
    transposed_patches_times_matrix_in<precision()>(plan, out, sums, rounded(patches, plan.precision), right,
                                                    right_pitch, columns, groups, workspace, stream);
  });
}

}  // namespace pyalexnet
