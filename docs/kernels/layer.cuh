// What the steps of the ladder compute, and where its numbers lie: a convolution of 3x3 within a border of zeros, as
// AlexNet's conv3, conv4 and conv5 are.
//
//   y[n, i, j, k] = sum over u, v < 3 and c < channels of x[n, i + u - 1, j + v - 1, c] w[u, v, c, k]
//
// It is a product of matrices, y = P w. The rows of y and of P are the pixels (n, i, j), the columns of y and w are the
// filters k, and the columns of P, which are the rows of w, are the terms (u, v, c). P is never stored: P[pixel, term]
// is an element of x or of the border.
#pragma once

#include <cuda_runtime.h>

__host__ __device__ constexpr int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

struct Layer {
  int images, height, width, channels, filters;

  __host__ __device__ int pixels() const { return images * height * width; }
  __host__ __device__ int terms() const { return 9 * channels; }
};

// A column of P. Going along the columns takes no division.
struct Term {
  int u, v, c;

  __device__ Term(Layer layer, int term)
      : u(term / layer.channels / 3), v(term / layer.channels % 3), c(term % layer.channels) {}

  __device__ void advance(Layer layer, int terms) {
    for (c += terms; c >= layer.channels; c -= layer.channels) {
      v = v < 2 ? v + 1 : 0;
      u += v == 0;
    }
  }
};

// A row of P. Behind the last one all are zeros.
struct Pixel {
  int i, j, start;  // start: of the image in x

  __device__ Pixel(Layer layer, int pixel)
      : i(pixel < layer.pixels() ? pixel / layer.width % layer.height : -9),
        j(pixel % layer.width),
        start(pixel / layer.width / layer.height * layer.height * layer.width * layer.channels) {}

  // Where P[this, term] lies in x, the terms of the other channels beside it; null: it is a zero of the border.
  __device__ const float* find(const float* x, Layer layer, Term term) const {
    const int row = i + term.u - 1, column = j + term.v - 1;
    const bool inside = term.u < 3 && row >= 0 && row < layer.height && column >= 0 && column < layer.width;
    return inside ? x + start + (row * layer.width + column) * layer.channels + term.c : nullptr;
  }
};

// Four floats in one access of 16 bytes, to whose multiples `at` must be aligned.
__device__ inline void load4(float* to, const float* at) {
  const float4 quad = *reinterpret_cast<const float4*>(at);
  to[0] = quad.x, to[1] = quad.y, to[2] = quad.z, to[3] = quad.w;
}
__device__ inline void store4(float* at, const float* from) {
  *reinterpret_cast<float4*>(at) = make_float4(from[0], from[1], from[2], from[3]);
}
