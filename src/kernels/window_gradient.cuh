// What pooling windows hand on to their pixels in backward, where forward has kept which pixel won each: what maxpool.cu and
// lrn_maxpool.cu have in common. For the paper's windows, 3 × 3 at stride 2 without padding.
//
// Winners are bytes, one for each y and in its order, contiguous: the number of the pixel in its window in row-major order, 0
// to 8, or kNoWinner. dz is the gradient by what is pooled, and dy that by what pooling gave.
#pragma once

#include "device/byte_lanes.cuh"
#include "device/rows.cuh"
#include "kernels/maxpool.cuh"

namespace pyalexnet {

inline constexpr int kWindowKernel = 3, kWindowStride = 2;
inline constexpr int kNoWinner = 255;  // nothing is handed on

// Pixels of a window, or windows over a pixel, along one axis.
struct Extent {
  int64_t begin, end;
};

// Of so many windows, those that hold the pixel at a place counted from the padding's first one.
__device__ inline Extent windows_over(int64_t place, int64_t outputs, int64_t kernel, int64_t stride) {
  return {place < kernel ? 0 : (place - kernel) / stride + 1, smaller(place / stride + 1, outputs)};
}

// A thread takes so many pairs of pixels side by side, of a run of channels: a pair's even pixel lies in the window that
// begins there and in the one before it, the odd pixel in the former alone.
inline constexpr int kPairs = kRunsOnCores ? 8 : 1;
inline constexpr int kReach = 2;  // windows over a pixel, along one axis

// The gradient that goes to a window's winner, and which of its pixels that is.
template <int N>
struct Handed {
  Vec<N> gradient;
  ByteLanes<N> winner;

  __device__ Vec<N> to(int pixel) const { return winner.select(pixel, gradient, broadcast<N>(0.0f)); }
};

// What the windows over one row of pixels hand on to it.
struct RowGradient {
  const float* dy;
  const uint8_t* winners;
  int64_t dy_pitch, channels, output_width;
  int rows;          // of windows
  int first_number;  // of a window's pixels, the first in this row, in the upper row of windows

  __device__ RowGradient(const float* dy, int64_t dy_pitch, const uint8_t* winners, int64_t image, int64_t iy,
                         const MaxPool& p)
      : dy_pitch(dy_pitch), channels(p.channels), output_width(p.output_width()) {
    const Extent over = windows_over(iy, p.output_height(), kWindowKernel, kWindowStride);
    const int64_t first_window = (image * p.output_height() + over.begin) * output_width;
    this->dy = dy + first_window * dy_pitch;
    this->winners = winners + first_window * channels;
    rows = static_cast<int>(over.end - over.begin);
    first_number = static_cast<int>(iy - over.begin * kWindowStride) * kWindowKernel;
  }

  __device__ int number(int row) const { return first_number - row * kWindowStride * kWindowKernel; }

  // Of a window that need not be there, a vector of channels.
  template <int N>
  PYALEXNET_INLINE Handed<N> handed(int row, int64_t ox, int64_t channel) const {
    if (row >= rows || ox < 0 || ox >= output_width) return {broadcast<N>(0.0f), ByteLanes<N>()};
    const int64_t window = row * output_width + ox;
    ask_for(dy + (window + output_width) * dy_pitch + channel);
    return {load<N>(dy + window * dy_pitch + channel), ByteLanes<N>::load(winners + window * channels + channel)};
  }

  // Calls give(pair, even, odd) with dz of pairs of pixels from pair `first` on, of a vector of channels. Windows are
  // added in row-major order.
  template <int N, class Give>
  PYALEXNET_INLINE void of_pairs(int64_t first, int pairs, int64_t channel, Give give) const {
    Handed<N> before[kReach];
    PYALEXNET_UNROLL
    for (int row = 0; row < kReach; ++row) before[row] = handed<N>(row, first - 1, channel);
    PYALEXNET_UNROLL_ON_GPUS
    for (int pair = 0; pair < pairs; ++pair) {
      Vec<N> even = broadcast<N>(0.0f), odd = even;
      PYALEXNET_UNROLL
      for (int row = 0; row < kReach; ++row) {
        if (row == rows) break;
        const Handed<N> here = handed<N>(row, first + pair, channel);
        even = even + before[row].to(number(row) + 2) + here.to(number(row));
        odd = odd + here.to(number(row) + 1);
        before[row] = here;
      }
      give(pair, even, odd);
    }
  }

  // dz of one channel of a pixel.
  __device__ float at(int64_t ix, int64_t channel) const {
    const Extent over = windows_over(ix, output_width, kWindowKernel, kWindowStride);
    float sum = 0.0f;
    for (int row = 0; row < rows; ++row) {
      for (int64_t ox = over.begin; ox < over.end; ++ox) {
        const int64_t window = row * output_width + ox;
        const bool wins = winners[window * channels + channel] == number(row) + ix - ox * kWindowStride;
        sum += wins ? dy[window * dy_pitch + channel] : 0.0f;
      }
    }
    return sum;
  }
};

struct PixelRun {
  int64_t row, ix;  // image · height + iy, and the first pixel
  int pairs;
  int64_t channel;  // the first one
  int vectors;      // of channels
};

// Calls body(the row's gradient, run) for the runs that the calling thread handles.
template <class Body>
__device__ inline void for_each_pixel_run(const float* dy, int64_t dy_pitch, const uint8_t* winners, const MaxPool& p,
                                          Body body) {
  const int64_t pairs = ceil_div(p.width, 2), vectors = p.channels / kVectorFloats;
  const int64_t runs = ceil_div(vectors, kVectorsPerThread);
  const ThreadShare rows = block_share(p.images * p.height);
  const ThreadShare items = row_share(ceil_div(pairs, kPairs) * runs);
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split image_iy = split(row, p.height);
    const RowGradient dz(dy, dy_pitch, winners, image_iy.quotient, image_iy.remainder, p);
    for (int64_t i = items.begin; i < items.end; i += items.step) {
      const Split strip_run = split(i, runs);
      const int64_t pair = strip_run.quotient * kPairs, vector = strip_run.remainder * kVectorsPerThread;
      body(dz, PixelRun{row, 2 * pair, at_most<kPairs>(pairs - pair), vector * kVectorFloats,
                        at_most<kVectorsPerThread>(vectors - vector)});
    }
  }
}

// Throws std::invalid_argument, naming the arrays, unless a GPU's vectors can read and write them where they lie.
inline void check_alignment(const char* names, bool floats_aligned, const uint8_t* winners) {
  require(floats_aligned && reinterpret_cast<uintptr_t>(winners) % 4 == 0, names,
          " is not aligned; floats must be to 16 bytes, and winners to 4");
}

// The launch for a kernel built on for_each_pixel_run, which reads and writes so many arrays of x's size.
inline Launch over_pixel_runs(const char* kernel_name, const MaxPool& p, int64_t arrays, cudaStream_t stream) {
  constexpr int64_t kRun = kVectorsPerThread * kVectorFloats;
  return share_out_rows(kernel_name, p.images * p.height,
                        ceil_div(ceil_div(p.width, 2), kPairs) * ceil_div(p.channels, kRun),
                        2 * kPairs * arrays * 4 * std::min(kRun, p.channels), stream);
}

}  // namespace pyalexnet
