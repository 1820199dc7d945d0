// What the two response normalisations share, of channels (lrn.cuh) and within a map (lrn_in_map.cuh): their numbers
// and their windows. s = k + alpha * (sum of a window's squares) is the base of the power s^-beta.
//
// Kernels compute in float32 and with vectors. That is right while s and what is made of it stay well inside of
// float32's range, as everywhere in a net that learns; an element of which a kernel finds that it is not (see
// Normalisation::largest_base) is computed again by the formula in float64, whose range holds every square of a float32.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "device/check.h"

namespace pyalexnet {

struct Normalisation {
  int64_t size;  // elements of a window along an axis
  float alpha, beta, k;
  // Where bases are below this, no product or power on the way to the result leaves float32's range, or only what is
  // too small to count; 0 where alpha, beta and k alone forbid to say so.
  float largest_base;

  // Throws std::invalid_argument, naming it, for a size below 1, a k that is not above 0, a negative alpha or beta, and
  // for numbers that float32 does not hold, be it as denormals.
  Normalisation(int64_t size, double alpha, double beta, double k)
      : size(size),
        alpha(float_of("alpha", alpha, 0.0)),
        beta(float_of("beta", beta, 0.0)),
        k(float_of("k", k, FLT_MIN)),
        largest_base(bound(static_cast<double>(size), alpha, beta, k)) {
    require(size >= 1, "size is ", size, "; it must be at least 1");
  }

  bool is_paper_window() const { return size == 5 && beta == 0.75f; }

  // How far a window reaches before and behind its element; one of an even size reaches further behind, as ONNX's does.
  __host__ __device__ int64_t before() const { return (size - 1) / 2; }
  __host__ __device__ int64_t behind() const { return size / 2; }

 private:
  static float float_of(const char* name, double value, double least) {
    const bool zero = value == 0.0 && least == 0.0;
    require(zero || (value >= FLT_MIN && value <= FLT_MAX), name, " is ", value, "; it must be ",
            least == 0.0 ? "0, or " : "", "from ", FLT_MIN, " to ", FLT_MAX);
    return static_cast<float>(value);
  }

  // Squares below 2^-126 are lost, and so are products with dy; both must be nothing beside what they are added to.
  static float bound(double size, double alpha, double beta, double k) {
    const bool squares_may_vanish = alpha * size <= k * 0x1p100 && k >= 0x1p-100;
    const bool products_may_vanish = beta * std::sqrt(alpha / k) * std::pow(k, -beta) <= 16.0;
    const bool powers_fit = std::pow(k, -beta - 1.0) <= 0x1p64;
    if (!squares_may_vanish || !products_may_vanish || !powers_fit) return 0.0f;
    return static_cast<float>(std::exp2(std::min(32.0, 64.0 / (beta + 1.0))));
  }
};

// The same for the absolute values of backward's sums: a product of theirs with an x so small that alpha x is lost.
inline constexpr float kLargestSpread = 0x1p20f;

// Places [begin, end) along an axis of `count`.
struct Window {
  int64_t begin, end;
};

// Those within `before` before and `behind` behind place i.
__host__ __device__ inline Window window_around(int64_t i, int64_t before, int64_t behind, int64_t count) {
  return {i > before ? i - before : 0, behind < count - 1 - i ? i + behind + 1 : count};
}

}  // namespace pyalexnet
