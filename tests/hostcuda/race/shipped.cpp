// The kernels of src/kernels for ThreadSanitizer, which has to accept them all. Shapes are as small as it takes to get
// several blocks, an incomplete last one, and, in matrix products, several slices of the sums in both kinds of tile.
#include "../runner.h"
#include "device/reduce.cuh"
#include "kernels/add.cuh"
#include "kernels/augment.cuh"
#include "kernels/conv.cuh"
#include "kernels/dropout.cuh"
#include "kernels/lars.cuh"
#include "kernels/linear.cuh"
#include "kernels/lrn.cuh"
#include "kernels/lrn_in_map.cuh"
#include "kernels/lrn_maxpool.cuh"
#include "kernels/maxpool.cuh"
#include "kernels/peak.cuh"
#include "kernels/relu.cuh"
#include "kernels/sgd.cuh"
#include "kernels/softmax.cuh"
#include "kernels/tanh.cuh"
#include "kernels/transpose.cuh"

#include <cstdlib>

using namespace pyalexnet;

namespace {

// Read before any kernel runs, so that reading it orders no threads.
const std::string skipped_barrier = std::getenv("SKIPPED_BARRIER") ? std::getenv("SKIPPED_BARRIER") : "";
const std::string skipped_file = skipped_barrier.substr(0, skipped_barrier.rfind(':'));
const int skipped_line = skipped_barrier.empty() ? 0 : std::stoi(skipped_barrier.substr(skipped_file.size() + 1));

using Floats = DeviceArray<float>;
using Bytes = DeviceArray<char>;
constexpr cudaStream_t stream = nullptr;

// Convolutions with padding, of images of 12 x 12 pixels and filters of 3 x 3.
ConvShape conv_shape(int64_t batch, int64_t channels, int64_t filters) {
  ConvShape shape{batch, 12, 12, channels, filters, 3, 3};
  shape.padding = 1;
  return shape;
}

// 144 pixels and 145 rows of the weights' gradient, that of the bias among them, are two blocks of 128 each. So are 200
// columns, of 128, where 136 are three of 64.
const ConvShape wide = conv_shape(1, 16, 200), narrow = conv_shape(1, 16, 136);
const ConvShape wide_backwards = conv_shape(1, 200, 16), narrow_backwards = conv_shape(1, 136, 16);

ConvShape in_groups() {
  ConvShape shape = conv_shape(1, 12, 20);
  shape.stride = 2;
  shape.groups = 2;
  return shape;
}

// On a torus of 8 x 8 points; two blocks for each map, the second one of four lanes.
ConvShape on_small_maps() {
  ConvShape shape{2, 5, 6, 12, 12, 3, 3};
  shape.padding = 1;
  return shape;
}

struct ConvArrays {
  explicit ConvArrays(const ConvShape& s)
      : x(s.batch * s.height * s.width * s.channels),
        y(s.batch * s.out_height() * s.out_width() * s.filters),
        w(s.kernel_height * s.kernel_width * (s.channels / s.groups) * s.filters),
        bias(s.filters) {}
  Floats x, y, w, bias;
};

void run_conv_forward(const ConvShape& s, const ProductChoice& choice = {}) {
  const ConvArrays a(s);
  const ConvPlan plan = conv_forward_plan(s, choice);
  const Bytes workspace(plan.workspace_bytes);
  conv_forward(plan, a.y.data, a.x.data, dense_strides(s), a.w.data, a.bias.data, true, nullptr, nullptr,
               workspace.data, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}

void run_conv_backward_input(const ConvShape& s) {
  const ConvArrays a(s);
  const ConvPlan plan = conv_backward_input_plan(s);
  const Bytes workspace(plan.workspace_bytes);
  conv_backward_input(plan, a.x.data, a.y.data, a.w.data, workspace.data, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}

void run_conv_backward_weight(const ConvShape& s, const ProductChoice& choice = {}) {
  const ConvArrays a(s);
  const ConvPlan plan = conv_backward_weight_plan(s, choice);
  const Bytes workspace(plan.workspace_bytes);
  conv_backward_weight(plan, a.w.data, a.bias.data, a.x.data, dense_strides(s), a.y.data, nullptr, workspace.data,
                       stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}

// Several blocks in both directions in each pass, and sums in parts but for the weights' gradient.
constexpr LinearShape linear{130, 520, 520};

struct LinearArrays {
  Floats x{linear.batch * linear.inputs}, y{linear.batch * linear.outputs}, w{linear.inputs * linear.outputs},
      bias{linear.outputs};
};

__global__ void reduce_twice_kernel(float* sums) {
  float sum = 1.0f;
  for (int round = 0; round < 2; ++round)
    sum = block_reduce(broadcast<kRowLanes>(sum), [](float a, float b) { return a + b; });
  if (blockIdx.x == 0) sums[threadIdx.x] = sum;
}

}  // namespace

bool barrier_is_skipped(const char* file, int line) {
  return line == skipped_line && file == skipped_file;
}

TEST(conv_forward_wide) {
  run_conv_forward(wide);
}
TEST(conv_forward_narrow) {
  run_conv_forward(narrow);
}
TEST(conv_forward_in_groups) {
  run_conv_forward(in_groups());
}
TEST(conv_forward_by_spectra) {
  run_conv_forward(on_small_maps(), {.algorithm = "fourier"});
}
TEST(conv_backward_weight_by_spectra) {
  run_conv_backward_weight(on_small_maps(), {.algorithm = "fourier"});
}
TEST(conv_forward_by_tiles) {
  run_conv_forward(on_small_maps(), {.algorithm = "winograd"});
}
TEST(conv_backward_weight_by_tiles) {
  run_conv_backward_weight(on_small_maps(), {.algorithm = "winograd"});
}
TEST(conv_forward_in_parts) {
  const ConvShape shape = conv_shape(1, 60, 20);
  CHECK(conv_forward_plan(shape).product.parts > 1);
  run_conv_forward(shape);
}

// Of channels that are no whole quads: what blocks know of their rows lies in shared memory then.
TEST(conv_forward_ragged_in_parts) {
  const ConvShape shape = conv_shape(1, 58, 20);
  CHECK(conv_forward_plan(shape).product.parts > 1);
  run_conv_forward(shape);
}

// By warps that multiply together, of more slices than there are buffers.
TEST(conv_forward_in_tf32) {
  run_conv_forward(conv_shape(1, 20, 20), {.algorithm = {}, .precision = Precision::kTf32});
}
TEST(conv_forward_in_bf16) {
  run_conv_forward(conv_shape(1, 20, 20), {.algorithm = {}, .precision = Precision::kBf16});
}
TEST(conv_backward_weight_in_tf32x3) {
  run_conv_backward_weight(conv_shape(1, 20, 20), {.algorithm = {}, .precision = Precision::kTf32x3});
}

TEST(conv_backward_input_wide) {
  run_conv_backward_input(wide_backwards);
}
TEST(conv_backward_input_narrow) {
  run_conv_backward_input(narrow_backwards);
}
TEST(conv_backward_input_in_groups) {
  run_conv_backward_input(in_groups());
}
TEST(conv_backward_input_in_parts) {
  run_conv_backward_input(conv_shape(1, 20, 60));
}

TEST(conv_backward_weight_wide) {
  run_conv_backward_weight(wide);
}
TEST(conv_backward_weight_narrow) {
  run_conv_backward_weight(narrow);
}
TEST(conv_backward_weight_in_groups) {
  run_conv_backward_weight(in_groups());
}
TEST(conv_backward_weight_in_parts) {
  const ConvShape shape = conv_shape(4, 16, 20);
  CHECK(conv_backward_weight_plan(shape).product.parts > 1);
  run_conv_backward_weight(shape);
}

TEST(conv_backward_weight_ragged_in_parts) {
  const ConvShape shape = conv_shape(4, 18, 20);
  CHECK(conv_backward_weight_plan(shape).product.parts > 1);
  run_conv_backward_weight(shape);
}

TEST(linear_forward_in_parts) {
  const LinearArrays a;
  const LinearPlan plan = linear_forward_plan(linear);
  const Bytes workspace(plan.workspace_bytes);
  linear_forward(plan, a.y.data, linear.outputs, a.x.data, linear.inputs, a.w.data, a.bias.data, true, workspace.data,
                 stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(linear_backward_input_in_parts) {
  const LinearArrays a;
  const LinearPlan plan = linear_backward_input_plan(linear);
  const Bytes workspace(plan.workspace_bytes);
  linear_backward_input(plan, a.x.data, a.y.data, linear.outputs, a.w.data, workspace.data, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(linear_backward_weight_whole) {
  const LinearArrays a;
  const LinearPlan plan = linear_backward_weight_plan(linear);
  const Bytes workspace(plan.workspace_bytes);
  linear_backward_weight(plan, a.w.data, a.bias.data, a.x.data, linear.inputs, a.y.data, linear.outputs, workspace.data,
                         stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}

// A block may reduce again at once, which no shipped kernel does with the same array of warps' values.
TEST(reductions_in_a_row) {
  const Floats x(kRowThreads);
  launch<reduce_twice_kernel>({"reduce_twice_kernel", dim3(2), dim3(kRowThreads), stream}, x.data);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(softmax_in_place) {
  const Floats x(5 * 1000);
  softmax_forward(x.data, x.data, 5, 1000, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(cross_entropy_in_place) {
  const Floats x(5 * 1000), losses(5);
  const DeviceArray<int32_t> labels(5);
  cross_entropy(losses.data, x.data, x.data, labels.data, 5, 1000, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}

TEST(lrn_both_ways) {
  const Lrn lrn{.rows = 40, .channels = 96, .normalisation = {5, 1e-4, 0.75, 2.0}};
  const Floats x(40 * 96), y(40 * 96), dx(40 * 96);
  lrn_forward(y.data, lrn.channels, x.data, lrn, stream);
  lrn_backward(dx.data, y.data, lrn.channels, x.data, lrn, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(lrn_in_map_both_ways) {
  const LrnInMap lrn{.images = 2, .height = 6, .width = 5, .channels = 24, .normalisation = {5, 1e-4, 0.75, 2.0}};
  const Floats x(2 * 6 * 5 * 24), y(2 * 6 * 5 * 24), scale(2 * 6 * 5 * 24), terms(2 * 6 * 5 * 24), dx(2 * 6 * 5 * 24);
  lrn_in_map_forward(y.data, lrn.channels, scale.data, x.data, lrn, stream);
  lrn_in_map_backward(dx.data, terms.data, y.data, lrn.channels, x.data, scale.data, lrn, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(maxpool_both_ways) {
  const MaxPool pool{.images = 3, .height = 13, .width = 13, .channels = 32};
  const Floats x(3 * 13 * 13 * 32), y(3 * 6 * 6 * 32), dx(3 * 13 * 13 * 32);
  maxpool_forward(y.data, pool.channels, x.data, pool, stream);
  maxpool_backward(dx.data, y.data, pool.channels, x.data, pool, stream);
  const DeviceArray<uint8_t> winners(3 * 6 * 6 * 32);
  maxpool_forward_with_winners(y.data, pool.channels, winners.data, x.data, pool, stream);
  maxpool_backward_by_winners(dx.data, y.data, pool.channels, winners.data, pool, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}

TEST(lrn_maxpool_both_ways) {
  const LrnMaxPool both{.pool = {.images = 2, .height = 9, .width = 8, .channels = 32},
                        .normalisation = {5, 1e-4, 0.75, 2.0}};
  const Floats x(2 * 9 * 8 * 32), y(2 * 4 * 3 * 32), dx(2 * 9 * 8 * 32);
  const DeviceArray<uint8_t> winners(2 * 4 * 3 * 32);
  lrn_maxpool_forward(y.data, both.pool.channels, winners.data, x.data, both, stream);
  lrn_maxpool_backward(dx.data, y.data, both.pool.channels, winners.data, x.data, both, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}

// Rows of 301 are no whole number of vectors.
TEST(dropout_in_place) {
  const Dropout dropout{.rows = 9, .columns = 301, .row_elements = 301, .draw = {{.seed = 5, .offset = 7}}};
  const Floats x(9 * 301);
  dropout_forward(x.data, 301, x.data, 301, dropout, stream);
  dropout_backward(x.data, 301, x.data, 301, dropout, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(relu_in_place) {
  const Floats x(9 * 301), y(9 * 301);
  relu_forward(y.data, y.data, 9 * 301, stream);
  relu_backward(x.data, 301, x.data, 301, y.data, 301, 9, 301, 2.0f, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(tanh_in_place) {
  const Floats x(9 * 301), y(9 * 301);
  tanh_forward(y.data, 301, y.data, 301, 9, 301, stream);
  tanh_backward(x.data, 301, x.data, 301, y.data, 301, 9, 301, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(add_in_place) {
  const Floats a(9 * 301), b(9 * 301);
  add_slices(a.data, 301, a.data, 301, b.data, 301, 9, 301, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(sgd) {
  const Floats w(5001), v(5001), g(5001), bias(7), bias_v(7), bias_g(7);
  sgd_step({{w.data, v.data, g.data, 5001, {{.lr = 0.1f}}}, {bias.data, bias_v.data, bias_g.data, 7, {{.lr = 0.2f}}}},
           stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(rates_by_norms) {
  const Floats w(70001), g(70001), bias(7), bias_g(7), scaled(6), sums(8);
  Sgd* const rates = reinterpret_cast<Sgd*>(scaled.data);
  lars_rates({{w.data, g.data, 70001, {{.lr = 0.1f}}, rates}, {bias.data, bias_g.data, 7, {{.lr = 0.2f}}, rates + 1}},
             {0.001f}, sums.data, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(transpose_odd_matrices) {
  const Floats from(3 * 33 * 45), to(3 * 33 * 45);
  transpose(to.data, from.data, {3, 1, 33, 45, 33 * 45, 0, 45, 33 * 45, 0, 33}, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(input_of_a_step) {
  const PrepareInput params{
      .images = 3, .height = 40, .width = 40, .crop = 31, .size = 33, .out_row_pitch = 100, .mean = Mean::pixel};
  const Floats out(3 * 33 * 100), shifts(3 * 3), mean(40 * 40 * 3);
  const DeviceArray<uint8_t> images(3 * 40 * 40 * 3), flips(3);
  const DeviceArray<int32_t> offsets(3 * 2);
  prepare_input(out.data, images.data, offsets.data, flips.data, shifts.data, mean.data, params, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
TEST(peak) {
  const Floats sink(3);
  multiply_add_peak(sink.data, 3, 2, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
}
