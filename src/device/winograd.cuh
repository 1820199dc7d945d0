// Winograd's minimal filtering F(2, 3): two outputs of a filter of three taps by four multiplications instead of six,
//
//   y = A^T ((G g) . (B^T d)),   d: four inputs, g: the taps, y[o] = sum over t of d[o + t] g[t]
//
// which are the values of polynomials at the points 0, 1, -1 and infinity (Winograd, Arithmetic Complexity of Computations,
// 1980; Lavin and Gray 2016). Nested, it takes 4 x 4 products where two dimensions take 36. Each element is a vector of
// lanes.
#pragma once

#include "device/vec.cuh"

namespace pyalexnet {

// B^T: inputs to points.
struct InputsToPoints {
  static constexpr int kFrom = 4, kTo = 4;
  template <int V>
  static PYALEXNET_INLINE void apply(Vec<V> (&points)[4], const Vec<V> (&d)[4]) {
    points[0] = d[0] - d[2];
    points[1] = d[1] + d[2];
    points[2] = d[2] - d[1];
    points[3] = d[3] - d[1];
  }
};

// G: taps to points.
struct TapsToPoints {
  static constexpr int kFrom = 3, kTo = 4;
  template <int V>
  static PYALEXNET_INLINE void apply(Vec<V> (&points)[4], const Vec<V> (&g)[3]) {
    const Vec<V> half = broadcast<V>(0.5f), outer = half * (g[0] + g[2]), middle = half * g[1];
    points[0] = g[0];
    points[1] = outer + middle;
    points[2] = outer - middle;
    points[3] = g[2];
  }
};

// A^T: points to outputs.
struct PointsToOutputs {
  static constexpr int kFrom = 4, kTo = 2;
  template <int V>
  static PYALEXNET_INLINE void apply(Vec<V> (&y)[2], const Vec<V> (&points)[4]) {
    y[0] = points[0] + points[1] + points[2];
    y[1] = points[1] - points[2] + points[3];
  }
};

// A: the outputs' gradients to points.
struct OutputsToPoints {
  static constexpr int kFrom = 2, kTo = 4;
  template <int V>
  static PYALEXNET_INLINE void apply(Vec<V> (&points)[4], const Vec<V> (&dy)[2]) {
    points[0] = dy[0];
    points[1] = dy[0] + dy[1];
    points[2] = dy[0] - dy[1];
    points[3] = dy[1];
  }
};

// G^T: points to the taps' gradients.
struct PointsToTaps {
  static constexpr int kFrom = 4, kTo = 3;
  template <int V>
  static PYALEXNET_INLINE void apply(Vec<V> (&dg)[3], const Vec<V> (&points)[4]) {
    const Vec<V> half = broadcast<V>(0.5f), sum = half * (points[1] + points[2]);
    dg[0] = points[0] + sum;
    dg[1] = half * (points[1] - points[2]);
    dg[2] = sum + points[3];
  }
};

// In both directions: to[i][j] = sum over k, l of T[i][k] T[j][l] from[k][l].
template <class T, int V>
PYALEXNET_INLINE void apply_both_ways(Vec<V> (&to)[T::kTo][T::kTo], const Vec<V> (&from)[T::kFrom][T::kFrom]) {
  Vec<V> down[T::kTo][T::kFrom];
  PYALEXNET_UNROLL
  for (int j = 0; j < T::kFrom; ++j) {
    Vec<V> column[T::kFrom], points[T::kTo];
    PYALEXNET_UNROLL
    for (int i = 0; i < T::kFrom; ++i) column[i] = from[i][j];
    T::apply(points, column);
    PYALEXNET_UNROLL
    for (int i = 0; i < T::kTo; ++i) down[i][j] = points[i];
  }
  PYALEXNET_UNROLL
  for (int i = 0; i < T::kTo; ++i) T::apply(to[i], down[i]);
}

}  // namespace pyalexnet
