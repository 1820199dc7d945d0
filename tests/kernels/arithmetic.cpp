// What the kernels compute, against plain loops in double: for machines on which there is no Python to call them from.
// Compiled for the targets `cpu` and `sim`. Shapes end within tiles, vectors and slices of each.
#include "../hostcuda/runner.h"
#include "kernels/conv.cuh"
#include "kernels/linear.cuh"
#include "kernels/lrn.cuh"
#include "kernels/lrn_maxpool.cuh"
#include "kernels/maxpool.cuh"
#include "kernels/sgd.cuh"
#include "kernels/softmax.cuh"
#include "kernels/tanh.cuh"
#include "kernels/transpose.cuh"

#include <algorithm>
#include <cmath>
#include <random>

using namespace pyalexnet;

namespace {

using Values = std::vector<float>;
constexpr cudaStream_t stream = nullptr;

Values normal(int64_t count) {
  static std::mt19937 random(2012);
  std::normal_distribution<float> distribution;
  Values values(static_cast<std::size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

struct Floats : DeviceArray<float> {
  explicit Floats(int64_t count) : DeviceArray(static_cast<std::size_t>(count)) {}
  explicit Floats(const Values& values) : DeviceArray(values.size()) {
    CHECK_CUDA(cudaMemcpy(data, values.data(), 4 * values.size(), cudaMemcpyHostToDevice));
  }
};

// Within `tolerance`, which a NaN is not.
void check_close(const Floats& found, const std::vector<double>& expected, double tolerance) {
  CHECK_CUDA(cudaDeviceSynchronize());
  const Values values = found.to_host();
  CHECK_EQUAL(values.size(), expected.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::abs(values[i] - expected[i]) <= tolerance) continue;
    throw std::runtime_error("element " + std::to_string(i) + " is " + std::to_string(values[i]) + ", not " +
                             std::to_string(expected[i]));
  }
}

// Of sums of so many products of N(0, 1) numbers, as tests/references.py derives it.
double rounding(int64_t terms) {
  return 8 * std::ldexp(1.0, -24) * static_cast<double>(std::max<int64_t>(terms, 8));
}

struct ConvReference {
  std::vector<double> y, dx, dw, db;
};

ConvReference reference(const ConvShape& s, const Values& x, const Values& w, const Values& b, const Values& dy) {
  ConvReference to{std::vector<double>(dy.size()), std::vector<double>(x.size()), std::vector<double>(w.size()),
                   std::vector<double>(b.size())};
  const int64_t channels = s.channels / s.groups, filters = s.filters / s.groups;
  for (int64_t out = 0; out < static_cast<int64_t>(dy.size()); ++out) {
    const int64_t k = out % s.filters, ox = out / s.filters % s.out_width();
    const int64_t oy = out / s.filters / s.out_width() % s.out_height();
    const int64_t n = out / s.filters / s.out_width() / s.out_height();
    to.y[out] = b[k];
    to.db[k] += dy[out];
    for (int64_t tap = 0; tap < s.kernel_height * s.kernel_width; ++tap) {
      const int64_t iy = oy * s.stride + tap / s.kernel_width - s.padding;
      const int64_t ix = ox * s.stride + tap % s.kernel_width - s.padding;
      if (iy < 0 || iy >= s.height || ix < 0 || ix >= s.width) continue;
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t in = ((n * s.height + iy) * s.width + ix) * s.channels + k / filters * channels + c;
        const int64_t weight = (tap * channels + c) * s.filters + k;
        to.y[out] += double{x[in]} * w[weight];
        to.dx[in] += double{dy[out]} * w[weight];
        to.dw[weight] += double{dy[out]} * x[in];
      }
    }
  }
  return to;
}

void check_conv(const ConvShape& s) {
  const int64_t pixels = s.batch * s.out_height() * s.out_width(), taps = s.kernel_height * s.kernel_width;
  const Values x = normal(s.batch * s.height * s.width * s.channels), b = normal(s.filters);
  const Values w = normal(taps * (s.channels / s.groups) * s.filters), dy = normal(pixels * s.filters);
  const ConvReference expected = reference(s, x, w, b, dy);
  const Floats x_(x), w_(w), b_(b), dy_(dy), y(pixels * s.filters), dx(x_.count), dw(w_.count), db(s.filters);

  const ConvPlan forward = conv_forward_plan(s);
  const DeviceArray<char> forward_space(forward.workspace_bytes);
  conv_forward(forward, y.data, x_.data, dense_strides(s), w_.data, b_.data, false, nullptr, nullptr,
               forward_space.data, stream);
  check_close(y, expected.y, rounding(taps * (s.channels / s.groups)));

  const ConvPlan by_input = conv_backward_input_plan(s);
  const DeviceArray<char> input_space(by_input.workspace_bytes);
  conv_backward_input(by_input, dx.data, dy_.data, w_.data, input_space.data, stream);
  check_close(dx, expected.dx, rounding(taps * (s.filters / s.groups)));

  const ConvPlan by_weight = conv_backward_weight_plan(s);
  const DeviceArray<char> weight_space(by_weight.workspace_bytes);
  conv_backward_weight(by_weight, dw.data, db.data, x_.data, dense_strides(s), dy_.data, nullptr, weight_space.data,
                       stream);
  check_close(dw, expected.dw, rounding(pixels));
  check_close(db, expected.db, rounding(pixels));
}

void check_linear(const LinearShape& s) {
  // A layer is a convolution of images of one pixel.
  const Values x = normal(s.batch * s.inputs), w = normal(s.inputs * s.outputs), b = normal(s.outputs);
  const Values dy = normal(s.batch * s.outputs);
  const ConvReference expected = reference({s.batch, 1, 1, s.inputs, s.outputs, 1, 1}, x, w, b, dy);
  const Floats x_(x), w_(w), b_(b), dy_(dy), y(dy_.count), dx(x_.count), dw(w_.count), db(b_.count);

  const LinearPlan forward = linear_forward_plan(s);
  const DeviceArray<char> forward_space(forward.workspace_bytes);
  linear_forward(forward, y.data, s.outputs, x_.data, s.inputs, w_.data, b_.data, false, forward_space.data, stream);
  check_close(y, expected.y, rounding(s.inputs));

  const LinearPlan by_input = linear_backward_input_plan(s);
  const DeviceArray<char> input_space(by_input.workspace_bytes);
  linear_backward_input(by_input, dx.data, dy_.data, s.outputs, w_.data, input_space.data, stream);
  check_close(dx, expected.dx, rounding(s.outputs));

  const LinearPlan by_weight = linear_backward_weight_plan(s);
  const DeviceArray<char> weight_space(by_weight.workspace_bytes);
  linear_backward_weight(by_weight, dw.data, db.data, x_.data, s.inputs, dy_.data, s.outputs, weight_space.data,
                         stream);
  check_close(dw, expected.dw, rounding(s.batch));
  check_close(db, expected.db, rounding(s.batch));
}

}  // namespace

TEST(convolutions) {
  check_conv({2, 5, 7, 3, 5, 3, 2, 1, 1});         // nothing is a multiple of a vector
  check_conv({2, 6, 5, 4, 6, 3, 3, 2, 1, 2});      // groups
  check_conv({1, 16, 17, 20, 130, 3, 3, 1, 1});    // tails of tiles
  check_conv({1, 35, 39, 3, 48, 11, 11, 4, 0});    // conv1, smaller
  check_conv({4, 13, 13, 32, 16, 3, 3, 1, 1, 2});  // sums in parts
}

TEST(layers) {
  check_linear({3, 10, 7});
  check_linear({20, 300, 130});
  check_linear({2, 3000, 70});
  check_linear({130, 64, 250});
}

TEST(normalisation) {
  for (const int64_t channels : {5, 16, 96}) {
    constexpr int64_t rows = 6;
    constexpr double alpha = 0.3, beta = 0.75, k = 2.0;
    const Values x = normal(rows * channels), dy = normal(rows * channels);
    std::vector<double> scale(x.size()), y(x.size()), dx(x.size());
    const auto sum_around = [&](int64_t i, const auto& value) {
      double sum = 0;
      for (int64_t j = i - std::min<int64_t>(2, i % channels);
           j <= i + std::min<int64_t>(2, channels - 1 - i % channels); ++j) {
        sum += value(j);
      }
      return sum;
    };
    for (int64_t i = 0; i < rows * channels; ++i) {
      scale[i] = k + alpha * sum_around(i, [&](int64_t j) { return double{x[j]} * x[j]; });
      y[i] = x[i] * std::pow(scale[i], -beta);
    }
    for (int64_t i = 0; i < rows * channels; ++i) {
      const double spread = sum_around(i, [&](int64_t j) { return dy[j] * x[j] * std::pow(scale[j], -beta - 1); });
      dx[i] = dy[i] * std::pow(scale[i], -beta) - 2 * alpha * beta * x[i] * spread;
    }
    const Lrn lrn{.rows = rows, .channels = channels, .normalisation = {5, alpha, beta, k}};
    const Floats x_(x), dy_(dy), found_y(rows * channels), found_dx(rows * channels);
    lrn_forward(found_y.data, channels, x_.data, lrn, stream);
    check_close(found_y, y, 1e-5);
    lrn_backward(found_dx.data, dy_.data, channels, x_.data, lrn, stream);
    check_close(found_dx, dx, 1e-5);
  }
}

TEST(pooling) {
  for (const int64_t channels : {7, 48}) {
    const MaxPool pool{.images = 2, .height = 7, .width = 9, .channels = channels};
    const Values x = normal(2 * 7 * 9 * channels), dy = normal(2 * 3 * 4 * channels);
    std::vector<double> y(dy.size()), dx(x.size());
    for (int64_t out = 0; out < static_cast<int64_t>(y.size()); ++out) {
      const int64_t pixel = out / channels;
      const int64_t corner = ((pixel / 12 * 7 + pixel / 4 % 3 * 2) * 9 + pixel % 4 * 2) * channels + out % channels;
      int64_t winner = corner;
      for (int64_t tap = 1; tap < 9; ++tap) {
        const int64_t here = corner + (tap / 3 * 9 + tap % 3) * channels;
        if (x[here] > x[winner]) winner = here;
      }
      y[out] = x[winner];
      dx[winner] += dy[out];
    }
    const Floats x_(x), dy_(dy), found_y(dy_.count), found_dx(x_.count);
    maxpool_forward(found_y.data, channels, x_.data, pool, stream);
    check_close(found_y, y, 0);
    maxpool_backward(found_dx.data, dy_.data, channels, x_.data, pool, stream);
    check_close(found_dx, dx, 3e-6);
  }
}

// Both in one kernel have the bits of each in its own.
TEST(normalisation_and_pooling) {
  constexpr int64_t kChannels = 48;
  const LrnMaxPool both{.pool = {.images = 2, .height = 7, .width = 9, .channels = kChannels},
                        .normalisation = {5, 0.3, 0.75, 1.0}};
  const Lrn lrn{.rows = 2 * 7 * 9, .channels = kChannels, .normalisation = both.normalisation};
  const Floats x(normal(2 * 7 * 9 * kChannels)), dy(normal(2 * 3 * 4 * kChannels));
  const Floats z(x.count), y(dy.count), dz(x.count), dx(x.count), found_y(dy.count), found_dx(x.count);
  lrn_forward(z.data, kChannels, x.data, lrn, stream);
  maxpool_forward(y.data, kChannels, z.data, both.pool, stream);
  maxpool_backward(dz.data, dy.data, kChannels, z.data, both.pool, stream);
  lrn_backward(dx.data, dz.data, kChannels, x.data, lrn, stream);
  const DeviceArray<uint8_t> winners(dy.count);
  lrn_maxpool_forward(found_y.data, kChannels, winners.data, x.data, both, stream);
  lrn_maxpool_backward(found_dx.data, dy.data, kChannels, winners.data, x.data, both, stream);
  CHECK_CUDA(cudaDeviceSynchronize());
  CHECK(found_y.to_host() == y.to_host());
  CHECK(found_dx.to_host() == dx.to_host());
}

TEST(transposition) {
  const Values from = normal(3 * 33 * 45);
  std::vector<double> expected(from.size());
  for (int64_t i = 0; i < static_cast<int64_t>(from.size()); ++i) {
    expected[(i / 45 / 33 * 45 + i % 45) * 33 + i / 45 % 33] = from[i];
  }
  const Floats from_(from), to(3 * 33 * 45);
  transpose(to.data, from_.data, {3, 1, 33, 45, 33 * 45, 0, 45, 33 * 45, 0, 33}, stream);
  check_close(to, expected, 0);
}

TEST(probabilities_and_losses) {
  constexpr int64_t rows = 3, columns = 1000;
  const Values x = normal(rows * columns);
  std::vector<double> y(x.size()), losses(rows);
  const DeviceArray<int32_t> labels(rows);  // class 0 each
  for (int64_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (int64_t i = row * columns; i < (row + 1) * columns; ++i) sum += std::exp(double{x[i]});
    for (int64_t i = row * columns; i < (row + 1) * columns; ++i) y[i] = std::exp(double{x[i]}) / sum;
    losses[row] = -std::log(y[row * columns]);
  }
  const Floats x_(x), found(rows * columns), found_losses(rows), gradient(rows * columns);
  softmax_forward(found.data, x_.data, rows, columns, stream);
  check_close(found, y, 1e-6);
  cross_entropy(found_losses.data, gradient.data, x_.data, labels.data, rows, columns, stream);
  check_close(found_losses, losses, 1e-5);
}

TEST(elementwise) {
  constexpr int64_t count = 1001;
  const Values w = normal(count), v = normal(count), g = normal(count);
  std::vector<double> new_w(count), new_v(count), tangents(count);
  for (int64_t i = 0; i < count; ++i) {
    new_v[i] = 0.9 * v[i] - 5e-4 * 0.1 * w[i] - 0.1 * g[i];
    new_w[i] = w[i] + new_v[i];
    tangents[i] = std::tanh(double{g[i]});
  }
  const Floats w_(w), v_(v), g_(g), tangents_(count);
  sgd_step({{w_.data, v_.data, g_.data, count, {{.lr = 0.1f}}}}, stream);
  check_close(w_, new_w, 2e-6);
  check_close(v_, new_v, 2e-6);
  tanh_forward(tangents_.data, count, g_.data, count, 1, count, stream);
  check_close(tangents_, tangents, 1e-6);
}
