#include "kernels/maxpool.cuh"

#include "device/sizes.h"
#include "kernels/window_gradient.cuh"
#include "kernels/window_maximum.cuh"

namespace pyalexnet {

namespace {

// The pixels of a window along one axis that lie inside of the image.
__device__ inline Extent extent(int64_t output, int64_t size, const MaxPool& p) {
  const int64_t begin = output * p.stride - p.padding, end = begin + p.kernel;
  return {begin > 0 ? begin : 0, end < size ? end : size};
}

// One image's pixels of x from the given channel on.
struct Plane {
  const float* pixels;
  int64_t width, channels;

  template <int N>
  __device__ Vec<N> at(int64_t row, int64_t column) const {
    return load<N>(pixels + (row * width + column) * channels);
  }

  // Asks for what the window below one of KERNEL × KERNEL pixels reads first, in its columns that are new there too.
  template <int KERNEL>
  PYALEXNET_INLINE void ask_below(int64_t row, int64_t column, int64_t stride) const {
    const int64_t side = stride < KERNEL ? stride : KERNEL;
    const float* const square = pixels + ((row + stride + KERNEL - side) * width + column + KERNEL - side) * channels;
    for (int64_t iy = 0; iy < side; ++iy) {
      for (int64_t ix = 0; ix < side; ++ix) ask_for(square + (iy * width + ix) * channels);
    }
  }
};

// Over rows × columns of the image; what the caller does not use of the result costs nothing.
template <int N>
__device__ inline Maximum<N> maximum(const Plane& x, Extent rows, Extent columns) {
  Maximum<N> best{x.at<N>(rows.begin, columns.begin), broadcast<N>(0.0f)};
  int number = 0;
  for (int64_t iy = rows.begin; iy < rows.end; ++iy) {
    for (int64_t ix = columns.begin; ix < columns.end; ++ix) best.meet(x.at<N>(iy, ix), number++);
  }
  return best;
}

// The same over a whole window of KERNEL × KERNEL pixels.
template <int N, int KERNEL>
__device__ inline Maximum<N> maximum(const Plane& x, int64_t row, int64_t column) {
  Maximum<N> best{x.at<N>(row, column), broadcast<N>(0.0f)};
  PYALEXNET_UNROLL
  for (int number = 1; number < KERNEL * KERNEL; ++number) {
    best.meet(x.at<N>(row + number / KERNEL, column + number % KERNEL), number);
  }
  return best;
}

// y: a block takes rows of output pixels, a thread vectors of their channels. KERNEL 0 stands for any kernel. Where it is to
// keep winners, no pixel counts as one through which a ReLU lets no gradient.
template <int N, int KERNEL, bool with_winners>
__global__ void maxpool_forward_kernel(float* y, int64_t y_pitch, uint8_t* winners, const float* x, MaxPool p) {
  const int64_t output_height = p.output_height(), output_width = p.output_width(), vectors = p.channels / N;
  const ThreadShare rows = block_share(p.images * output_height);
  const ThreadShare items = row_share(output_width * vectors);
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split image_oy = split(row, output_height);
    const float* const image = x + image_oy.quotient * p.height * p.width * p.channels;
    for (int64_t i = items.begin; i < items.end; i += items.step) {
      const Split ox_vector = split(i, vectors);
      const int64_t oy = image_oy.remainder, ox = ox_vector.quotient, c = ox_vector.remainder * N;
      const Plane plane{image + c, p.width, p.channels};
      Maximum<N> best;
      if constexpr (KERNEL > 0) {
        plane.template ask_below<KERNEL>(oy * p.stride, ox * p.stride, p.stride);
        best = maximum<N, KERNEL>(plane, oy * p.stride, ox * p.stride);
      } else {
        best = maximum<N>(plane, extent(oy, p.height, p), extent(ox, p.width, p));
      }
      store(y + (row * output_width + ox) * y_pitch + c, best.value);
      if constexpr (with_winners) {
        const Vec<N> none = broadcast<N>(static_cast<float>(kNoWinner));
        const Vec<N> winner = p.x_from_relu ? select_positive(best.value, best.pixel, none) : best.pixel;
        ByteLanes<N>::store(winners + (row * output_width + ox) * p.channels + c, winner);
      }
    }
  }
}

// Where a thread writes dx, which goes on through the ReLU that made x if there was one.
struct Gradient {
  float* dx;
  const float* x;
  bool x_from_relu, past_caches;

  __device__ Gradient(float* dx, const float* x, const MaxPool& p)
      : dx(dx), x(x), x_from_relu(p.x_from_relu), past_caches(outgrow_caches(p.inputs())) {}

  template <int N>
  __device__ void write(int64_t at, Vec<N> value) const {
    if (x_from_relu) value = select_positive(load<N>(x + at), value, broadcast<N>(0.0f));
    past_caches ? store_past_caches(dx + at, value) : store(dx + at, value);
  }
};

// A window's maximum, as the number of its pixel, and the gradient that goes there.
template <int N>
struct Window {
  Vec<N> winner, gradient;
};

// dx for windows of KERNEL × KERNEL at STRIDE without padding. A thread takes tiles of STRIDE × STRIDE pixels of a vector of
// channels, all of which share one set of windows, so that it finds a window's maximum once for all of them, and once for
// neighbouring tiles.
template <int N, int KERNEL, int STRIDE>
__global__ void maxpool_backward_tiles_kernel(float* dx, const float* dy, int64_t dy_pitch, const float* x, MaxPool p) {
  constexpr int kReach = (KERNEL + STRIDE - 1) / STRIDE;  // windows over a pixel, along one axis
  static_assert(kReach == 2, "one column of windows is kept");
  const int64_t output_height = p.output_height(), output_width = p.output_width(), vectors = p.channels / N;
  const int64_t tile_rows = ceil_div(p.height, STRIDE), tile_columns = ceil_div(p.width, STRIDE);
  const Gradient gradient(dx, x, p);
  const ThreadShare rows = block_share(p.images * tile_rows);
  const ThreadShare items = row_share(ceil_div(tile_columns, kTilesPerThread) * vectors);
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split image_tile = split(row, tile_rows);
    const int64_t ty = image_tile.remainder, first_pixel = image_tile.quotient * p.height * p.width;
    const float* const image_dy = dy + image_tile.quotient * output_height * output_width * dy_pitch;
    for (int64_t i = items.begin; i < items.end; i += items.step) {
      const Split run_vector = split(i, vectors);
      const int64_t first_tile = run_vector.quotient * kTilesPerThread, c = run_vector.remainder * N;
      const Plane plane{x + first_pixel * p.channels + c, p.width, p.channels};
      const auto find = [&](int64_t oy, int64_t ox) -> Window<N> {
        const float* const from = image_dy + (oy * output_width + ox) * dy_pitch + c;
        ask_for(from + output_width * dy_pitch);
        return {maximum<N, KERNEL>(plane, oy * STRIDE, ox * STRIDE).pixel, load<N>(from)};
      };

      Window<N> kept[kReach];  // of the tile before, those in its last column
      for (Window<N>& window : kept) window = {broadcast<N>(0.0f), broadcast<N>(0.0f)};
      PYALEXNET_UNROLL
      for (int tile = 0; tile < kTilesPerThread; ++tile) {
        const int64_t tx = first_tile + tile;
        if (tx == tile_columns) break;
        plane.template ask_below<KERNEL>(ty * STRIDE, tx * STRIDE, STRIDE);
        Vec<N> sums[STRIDE][STRIDE];
        PYALEXNET_UNROLL
        for (int pixel = 0; pixel < STRIDE * STRIDE; ++pixel) {
          sums[pixel / STRIDE][pixel % STRIDE] = broadcast<N>(0.0f);
        }
        PYALEXNET_UNROLL
        for (int window = 0; window < kReach * kReach; ++window) {
          const int up = kReach - 1 - window / kReach, left = kReach - 1 - window % kReach;
          const int64_t oy = ty - up, ox = tx - left;
          if (oy < 0 || oy >= output_height || ox < 0 || ox >= output_width) continue;
          const Window<N> found = left > 0 && tile > 0 ? kept[up] : find(oy, ox);
          if (left == 0) kept[up] = found;
          PYALEXNET_UNROLL
          for (int pixel = 0; pixel < STRIDE * STRIDE; ++pixel) {
            const int iy = pixel / STRIDE, ix = pixel % STRIDE;
            const int ky = iy + up * STRIDE, kx = ix + left * STRIDE;
            if (ky >= KERNEL || kx >= KERNEL) continue;
            const Vec<N> number = broadcast<N>(static_cast<float>(ky * KERNEL + kx));
            sums[iy][ix] = sums[iy][ix] + select_equal(found.winner, number, found.gradient, broadcast<N>(0.0f));
          }
        }
        PYALEXNET_UNROLL
        for (int pixel = 0; pixel < STRIDE * STRIDE; ++pixel) {
          const int64_t iy = ty * STRIDE + pixel / STRIDE, ix = tx * STRIDE + pixel % STRIDE;
          if (iy >= p.height || ix >= p.width) continue;
          gradient.write((first_pixel + iy * p.width + ix) * p.channels + c, sums[pixel / STRIDE][pixel % STRIDE]);
        }
      }
    }
  }
}

// dx for any windows: a thread takes a vector of one pixel's channels.
template <int N>
__global__ void maxpool_backward_kernel(float* dx, const float* dy, int64_t dy_pitch, const float* x, MaxPool p) {
  const int64_t output_height = p.output_height(), output_width = p.output_width(), vectors = p.channels / N;
  const Gradient gradient(dx, x, p);
  const ThreadShare rows = block_share(p.images * p.height);
  const ThreadShare items = row_share(p.width * vectors);
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split image_iy = split(row, p.height);
    const float* const image = x + image_iy.quotient * p.height * p.width * p.channels;
    const float* const image_dy = dy + image_iy.quotient * output_height * output_width * dy_pitch;
    for (int64_t i = items.begin; i < items.end; i += items.step) {
      const Split ix_vector = split(i, vectors);
      const int64_t iy = image_iy.remainder, ix = ix_vector.quotient, c = ix_vector.remainder * N;
      const Plane plane{image + c, p.width, p.channels};
      const auto over = [&](int64_t input, int64_t outputs) {
        return windows_over(input + p.padding, outputs, p.kernel, p.stride);
      };
      const Extent over_y = over(iy, output_height), over_x = over(ix, output_width);
      Vec<N> sum = broadcast<N>(0.0f);
      for (int64_t oy = over_y.begin; oy < over_y.end; ++oy) {
        for (int64_t ox = over_x.begin; ox < over_x.end; ++ox) {
          const Extent window_y = extent(oy, p.height, p), window_x = extent(ox, p.width, p);
          const int64_t number = (iy - window_y.begin) * (window_x.end - window_x.begin) + ix - window_x.begin;
          const Vec<N> winner = maximum<N>(plane, window_y, window_x).pixel;
          const Vec<N> passed = load<N>(image_dy + (oy * output_width + ox) * dy_pitch + c);
          sum = sum + select_equal(winner, broadcast<N>(static_cast<float>(number)), passed, broadcast<N>(0.0f));
        }
      }
      gradient.write((row * p.width + ix) * p.channels + c, sum);
    }
  }
}

// dx of the paper's windows, by what forward kept of them. Lines are asked for before they are written, since a store to one
// that no cache has waits for it.
__global__ void maxpool_backward_by_winners_kernel(float* dx, const float* dy, int64_t dy_pitch, const uint8_t* winners,
                                                   MaxPool p) {
  constexpr int N = kVectorFloats;
  for_each_pixel_run(dy, dy_pitch, winners, p, [&](const RowGradient& dz, const PixelRun& run) {
    for (int vector = 0; vector < run.vectors; ++vector) {
      const int64_t c = run.channel + vector * N;
      const auto write = [&](int64_t ix, Vec<N> value) {
        if (ix == p.width) return;
        float* const to = dx + (run.row * p.width + ix) * p.channels + c;
        ask_for(to + 2 * kPairs * p.channels);
        store(to, value);
      };
      dz.of_pairs<N>(run.ix / 2, run.pairs, c, [&](int pair, Vec<N> even, Vec<N> odd) {
        write(run.ix + 2 * pair, even), write(run.ix + 2 * pair + 1, odd);
      });
    }
  });
}

bool is_paper_window(const MaxPool& pool) {
  return pool.kernel == kWindowKernel && pool.stride == kWindowStride && pool.padding == 0;
}

Launch over_windows(const MaxPool& p, int vector_floats, cudaStream_t stream) {
  return share_out_rows("maxpool_forward_kernel", p.images * p.output_height(),
                        p.output_width() * (p.channels / vector_floats), 4 * vector_floats * (1 + p.stride * p.stride),
                        stream);
}

template <int N>
void forward(float* y, int64_t y_pitch, const float* x, const MaxPool& p, cudaStream_t stream) {
  uint8_t* const winners = nullptr;
  if (p.kernel == 3 && p.padding == 0) {
    launch<maxpool_forward_kernel<N, 3, false>>(over_windows(p, N, stream), y, y_pitch, winners, x, p);
  } else {
    launch<maxpool_forward_kernel<N, 0, false>>(over_windows(p, N, stream), y, y_pitch, winners, x, p);
  }
}

template <int N>
void backward(float* dx, const float* dy, int64_t dy_pitch, const float* x, const MaxPool& p, cudaStream_t stream) {
  if (is_paper_window(p)) {
    const Launch how = share_out_rows("maxpool_backward_tiles_kernel", p.images * ceil_div(p.height, 2),
                                      ceil_div(ceil_div(p.width, 2), kTilesPerThread) * (p.channels / N),
                                      4 * N * 9 * kTilesPerThread, stream);
    launch<maxpool_backward_tiles_kernel<N, 3, 2>>(how, dx, dy, dy_pitch, x, p);
  } else {
    const Launch how =
        share_out_rows("maxpool_backward_kernel", p.images * p.height, p.width * (p.channels / N), 4 * N * 3, stream);
    launch<maxpool_backward_kernel<N>>(how, dx, dy, dy_pitch, x, p);
  }
}

void check_winners(const MaxPool& pool) {
  require(keeps_winners(pool), "winners are not kept of pooling with kernel ", pool.kernel, ", stride ", pool.stride,
          " and padding ", pool.padding, " over ", pool.channels, " channels; they must be ", kWindowKernel, ", ",
          kWindowStride, ", 0 and a multiple of ", kVectorFloats);
}

}  // namespace

void check_maxpool(const MaxPool& p) {
  require(p.images >= 1 && p.height >= 1 && p.width >= 1 && p.channels >= 1, "x has shape ",
          shape_text({p.images, p.height, p.width, p.channels}), "; it must not be empty");
  require(p.kernel >= 1 && p.kernel <= kLargestExtent, "kernel is ", p.kernel, "; it must be from 1 to ",
          kLargestExtent);
  require(p.stride >= 1 && p.stride <= kLargestExtent, "stride is ", p.stride, "; it must be from 1 to ",
          kLargestExtent);
  require(p.padding >= 0 && p.padding < p.kernel, "padding is ", p.padding, "; it must be from 0 to below the ",
          "kernel of ", p.kernel);
  require(p.height + 2 * p.padding >= p.kernel && p.width + 2 * p.padding >= p.kernel, "kernel is ", p.kernel,
          "; it must not be larger than the image of ", p.height, " × ", p.width, " pixels with padding ", p.padding);
  // A window's pixels are counted in floats.
  constexpr int64_t kMostPixels = int64_t{1} << 24;
  require(std::min(p.kernel, p.height) * std::min(p.kernel, p.width) <= kMostPixels, "kernel is ", p.kernel,
          "; its window must hold at most ", kMostPixels, " pixels of the image of ", p.height, " × ", p.width);
}

void check_pitch(const char* name, int64_t pitch, const MaxPool& pool) {
  require(pitch >= pool.channels, name, " is ", pitch, "; it must be at least the ", pool.channels, " channels");
}

void maxpool_forward(float* y, int64_t y_pitch, const float* x, const MaxPool& pool, cudaStream_t stream) {
  check_maxpool(pool);
  check_pitch("y_pitch", y_pitch, pool);
  const bool vectors = pool.channels % kVectorFloats == 0 && vectors_aligned(y, y_pitch) && vectors_aligned(x);
  const auto run = vectors ? &forward<kVectorFloats> : &forward<1>;
  run(y, y_pitch, x, pool, stream);
}

void maxpool_backward(float* dx, const float* dy, int64_t dy_pitch, const float* x, const MaxPool& pool,
                      cudaStream_t stream) {
  check_maxpool(pool);
  check_pitch("dy_pitch", dy_pitch, pool);
  const bool vectors =
      pool.channels % kVectorFloats == 0 && vectors_aligned(dx) && vectors_aligned(dy, dy_pitch) && vectors_aligned(x);
  const auto run = vectors ? &backward<kVectorFloats> : &backward<1>;
  run(dx, dy, dy_pitch, x, pool, stream);
}

bool keeps_winners(const MaxPool& pool) {
  return is_paper_window(pool) && pool.channels % kVectorFloats == 0;
}

void maxpool_forward_with_winners(float* y, int64_t y_pitch, uint8_t* winners, const float* x, const MaxPool& pool,
                                  cudaStream_t stream) {
  check_maxpool(pool);
  check_pitch("y_pitch", y_pitch, pool);
  check_winners(pool);
  check_alignment("y, winners or x", vectors_aligned(y, y_pitch) && vectors_aligned(x), winners);
  launch<maxpool_forward_kernel<kVectorFloats, kWindowKernel, true>>(over_windows(pool, kVectorFloats, stream), y,
                                                                     y_pitch, winners, x, pool);
}

void maxpool_backward_by_winners(float* dx, const float* dy, int64_t dy_pitch, const uint8_t* winners,
                                 const MaxPool& pool, cudaStream_t stream) {
  check_maxpool(pool);
  check_pitch("dy_pitch", dy_pitch, pool);
  check_winners(pool);
  check_alignment("dx, dy or winners", vectors_aligned(dx) && vectors_aligned(dy, dy_pitch), winners);
  launch<maxpool_backward_by_winners_kernel>(over_pixel_runs("maxpool_backward_by_winners_kernel", pool, 2, stream), dx,
                                             dy, dy_pitch, winners, pool);
}

Cost maxpool_forward_cost(const MaxPool& p) {
  return {p.outputs() * p.kernel * p.kernel, 4 * (p.inputs() + p.outputs())};
}

Cost maxpool_backward_cost(const MaxPool& p) {
  const Cost forward = maxpool_forward_cost(p);
  return {forward.flops, forward.bytes + 4 * p.inputs()};
}

Cost maxpool_forward_with_winners_cost(const MaxPool& p) {
  const Cost forward = maxpool_forward_cost(p);
  return {forward.flops, forward.bytes + p.outputs()};
}

Cost maxpool_backward_by_winners_cost(const MaxPool& p) {
  return {p.outputs(), 4 * (p.inputs() + p.outputs()) + p.outputs()};
}

}  // namespace pyalexnet
