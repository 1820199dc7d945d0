#include "kernels/lrn_maxpool.cuh"

#include "device/byte_lanes.cuh"
#include "device/rows.cuh"
#include "kernels/lrn_of_pixels.cuh"
#include "kernels/window_gradient.cuh"
#include "kernels/window_maximum.cuh"

namespace pyalexnet {

namespace {

// Forward's thread takes a block of windows, so many side by side and below each other, of so many vectors of channels. A
// core keeps rows of normalised pixels in its first cache meanwhile; what lies in windows of two blocks is normalised for
// each of them. A thread of a GPU takes one vector of one window: it waits for memory rather than for arithmetic.
constexpr int kWindowsAside = kRunsOnCores ? 14 : 1, kWindowsBelow = kRunsOnCores ? 7 : 1;
constexpr int kBlockVectors = kRunsOnCores ? 128 / kVectorFloats : 1;

struct WindowBlock {
  int64_t image, oy, ox, channel;  // its first ones
  int below, aside, vectors;
};

// Calls body(block) for the blocks that the calling thread handles.
template <class Body>
__device__ inline void for_each_block(const MaxPool& p, Body body) {
  const int64_t output_height = p.output_height(), output_width = p.output_width(),
                vectors = p.channels / kVectorFloats;
  const int64_t bands = ceil_div(output_height, kWindowsBelow), runs = ceil_div(vectors, kBlockVectors);
  const ThreadShare rows = block_share(p.images * bands);
  const ThreadShare items = row_share(ceil_div(output_width, kWindowsAside) * runs);
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split image_band = split(row, bands);
    const int64_t oy = image_band.remainder * kWindowsBelow;
    for (int64_t i = items.begin; i < items.end; i += items.step) {
      const Split strip_run = split(i, runs);
      const int64_t ox = strip_run.quotient * kWindowsAside, vector = strip_run.remainder * kBlockVectors;
      body(WindowBlock{image_band.quotient, oy, ox, vector * kVectorFloats, at_most<kWindowsBelow>(output_height - oy),
                       at_most<kWindowsAside>(output_width - ox), at_most<kBlockVectors>(vectors - vector)});
    }
  }
}

// What forward does for a block.
template <bool with_winners>
struct Forward {
  static constexpr int N = kVectorFloats;
  // Normalised pixels of a row, by vector of channels and column.
  using Row = Vec<N>[kBlockVectors][(kWindowsAside - 1) * kWindowStride + kWindowKernel];

  float* y;
  int64_t y_pitch;
  uint8_t* winners;
  const float* x;
  const Lrn& lrn;
  const MaxPool& pool;
  int64_t output_height, output_width;

  __device__ const float* pixel(int64_t image, int64_t iy, int64_t ix) const {
    return x + ((image * pool.height + iy) * pool.width + ix) * pool.channels;
  }

  PYALEXNET_INLINE void normalise_row(Row& row, const WindowBlock& block, int64_t iy, Vec<N>& largest) const {
    const int64_t end = block.channel + block.vectors * N;
    PYALEXNET_UNROLL_ON_GPUS
    for (int column = 0; column < (block.aside - 1) * kWindowStride + kWindowKernel; ++column) {
      const float* const from = pixel(block.image, iy, block.ox * kWindowStride + column);
      normalise_run<N, true>(from, block.channel, end, lrn, largest, [&](int64_t c, Vec<N> value) {
        ask_for(from + kWindowStride * pool.width * pool.channels + c);
        row[(c - block.channel) / N][column] = value;
      });
    }
  }

  // A row of windows, from their rows of pixels, none of them NaN.
  PYALEXNET_INLINE void pool_row(const Row* const (&rows)[kWindowKernel], const WindowBlock& block, int below) const {
    PYALEXNET_UNROLL_ON_GPUS
    for (int vector = 0; vector < block.vectors; ++vector) {
      PYALEXNET_UNROLL_ON_GPUS
      for (int aside = 0; aside < block.aside; ++aside) {
        const auto at = [&](int number) {
          return (*rows[number / kWindowKernel])[vector][aside * kWindowStride + number % kWindowKernel];
        };
        Maximum<N> best{at(0), broadcast<N>(0.0f)};
        PYALEXNET_UNROLL
        for (int number = 1; number < kWindowKernel * kWindowKernel; ++number) best.meet_number(at(number), number);
        write(block, below, aside, vector, best);
      }
    }
  }

  // The whole block, where float32 is too small or something is NaN.
  __device__ void pool_exactly(const WindowBlock& block) const {
    for (int below = 0; below < block.below; ++below) {
      for (int aside = 0; aside < block.aside; ++aside) {
        for (int vector = 0; vector < block.vectors; ++vector) {
          const int64_t iy = (block.oy + below) * kWindowStride, ix = (block.ox + aside) * kWindowStride;
          const auto at = [&](int number) {
            const float* const from = pixel(block.image, iy + number / kWindowKernel, ix + number % kWindowKernel);
            return exact_vector<N>(from, block.channel + vector * N, lrn);
          };
          Maximum<N> best{at(0), broadcast<N>(0.0f)};
          for (int number = 1; number < kWindowKernel * kWindowKernel; ++number) best.meet(at(number), number);
          write(block, below, aside, vector, best);
        }
      }
    }
  }

  __device__ void write(const WindowBlock& block, int below, int aside, int vector, const Maximum<N>& best) const {
    const int64_t window = (block.image * output_height + block.oy + below) * output_width + block.ox + aside;
    const int64_t channel = block.channel + vector * N;
    ask_for(y + (window + output_width) * y_pitch + channel);
    store(y + window * y_pitch + channel, best.value);
    if constexpr (with_winners) ByteLanes<N>::store(winners + window * pool.channels + channel, best.pixel);
  }
};

template <bool with_winners>
__global__ void lrn_maxpool_forward_kernel(float* y, int64_t y_pitch, uint8_t* winners, const float* x, Lrn lrn,
                                           MaxPool p) {
  using Step = Forward<with_winners>;
  const Step step{y, y_pitch, winners, x, lrn, p, p.output_height(), p.output_width()};
  for_each_block(p, [&](const WindowBlock& block) {
    Vec<kVectorFloats> largest = broadcast<kVectorFloats>(0.0f);
    typename Step::Row kept[kWindowKernel];
    const int64_t top = block.oy * kWindowStride;
    step.normalise_row(kept[0], block, top, largest);
    PYALEXNET_UNROLL_ON_GPUS
    for (int below = 0; below < block.below; ++below) {
      const int first = below * kWindowStride;  // of the three rows, which take turns
      typename Step::Row* const rows[] = {&kept[first % kWindowKernel], &kept[(first + 1) % kWindowKernel],
                                          &kept[(first + 2) % kWindowKernel]};
      step.normalise_row(*rows[1], block, top + first + 1, largest);
      step.normalise_row(*rows[2], block, top + first + 2, largest);
      step.pool_row({rows[0], rows[1], rows[2]}, block, below);
    }
    if (!all_below(largest, lrn.normalisation.largest_base)) step.pool_exactly(block);
  });
}

__global__ void lrn_maxpool_backward_kernel(float* dx, const float* dy, int64_t dy_pitch, const uint8_t* winners,
                                            const float* x, Lrn lrn, MaxPool p) {
  constexpr int N = kVectorFloats;
  Vec<N> all_small = broadcast<N>(0.0f);
  for_each_pixel_run(dy, dy_pitch, winners, p, [&](const RowGradient& dz, const PixelRun& run) {
    Vec<N> kept[2 * kPairs][kVectorsPerThread + 2];  // dz from one vector before the run to one behind it
    const int64_t kept_from = run.channel - N, end = run.channel + run.vectors * N;
    PYALEXNET_UNROLL_ON_GPUS
    for (int vector = 0; vector < kVectorsPerThread + 2; ++vector) {
      const int64_t c = kept_from + vector * N;
      if (c < 0) continue;
      if (c >= p.channels || c > end) break;
      dz.of_pairs<N>(run.ix / 2, run.pairs, c, [&](int pair, Vec<N> even, Vec<N> odd) {
        kept[2 * pair][vector] = even, kept[2 * pair + 1][vector] = odd;
      });
    }
    PYALEXNET_UNROLL_ON_GPUS
    for (int pixel = 0; pixel < 2 * run.pairs; ++pixel) {
      if (run.ix + pixel == p.width) break;
      const int64_t first = (run.row * p.width + run.ix + pixel) * p.channels;
      const auto dz_of = [&](int64_t c) {
        ask_for(x + first + 2 * kPairs * p.channels + c);
        return kept[pixel][(c - kept_from) / N];
      };
      const auto write = [&](int64_t c, Vec<N> value) { store(dx + first + c, value); };
      denormalise_run<N, true>(dz_of, x + first, run.channel, end, lrn, all_small, write);
    }
  });
  if (all_below(all_small, 1.0f)) return;
  for_each_pixel_run(dy, dy_pitch, winners, p, [&](const RowGradient& dz, const PixelRun& run) {
    for (int64_t ix = run.ix; ix < smaller(run.ix + 2 * run.pairs, p.width); ++ix) {
      const int64_t first = (run.row * p.width + ix) * p.channels;
      const auto dz_of = [&](int64_t c) { return dz.at(ix, c); };
      for (int64_t c = run.channel; c < run.channel + run.vectors * N; ++c) {
        if (lrn.x_from_relu && !(x[first + c] > 0.0f)) continue;
        dx[first + c] = exact_backward(dx[first + c], dz_of, x + first, c, lrn);
      }
    }
  });
}

Lrn lrn_of(const LrnMaxPool& both) {
  const MaxPool& p = both.pool;
  return {p.images * p.height * p.width, p.channels, both.normalisation, p.x_from_relu};
}

void check(const LrnMaxPool& both, const char* pitch_name, int64_t pitch) {
  check_maxpool(both.pool);
  const Normalisation& n = both.normalisation;
  const MaxPool& p = both.pool;
  require(fits_lrn_maxpool(both), "there is no kernel for LRN of size ", n.size, " and beta ", n.beta,
          " with pooling of kernel ", p.kernel, ", stride ", p.stride, " and padding ", p.padding, " over ", p.channels,
          " channels; they must be 5, 0.75, 3, 2, 0 and a multiple of ", kVectorFloats);
  check_pitch(pitch_name, pitch, p);
}

}  // namespace

bool fits_lrn_maxpool(const LrnMaxPool& both) {
  return both.normalisation.is_paper_window() && keeps_winners(both.pool);
}

void lrn_maxpool_forward(float* y, int64_t y_pitch, uint8_t* winners, const float* x, const LrnMaxPool& both,
                         cudaStream_t stream) {
  check(both, "y_pitch", y_pitch);
  check_alignment("y, winners or x", vectors_aligned(y, y_pitch) && vectors_aligned(x), winners);
  const MaxPool& p = both.pool;
  constexpr int kPixels = ((kWindowsAside - 1) * kWindowStride + kWindowKernel) * kWindowStride * kWindowsBelow;
  const Launch how =
      share_out_rows("lrn_maxpool_forward_kernel", p.images * ceil_div(p.output_height(), kWindowsBelow),
                     ceil_div(p.output_width(), kWindowsAside) * ceil_div(p.channels / kVectorFloats, kBlockVectors),
                     4 * kPixels * kBlockVectors * kVectorFloats, stream);
  if (winners) {
    launch<lrn_maxpool_forward_kernel<true>>(how, y, y_pitch, winners, x, lrn_of(both), p);
  } else {
    launch<lrn_maxpool_forward_kernel<false>>(how, y, y_pitch, winners, x, lrn_of(both), p);
  }
}

void lrn_maxpool_backward(float* dx, const float* dy, int64_t dy_pitch, const uint8_t* winners, const float* x,
                          const LrnMaxPool& both, cudaStream_t stream) {
  check(both, "dy_pitch", dy_pitch);
  const bool aligned = vectors_aligned(dx) && vectors_aligned(dy, dy_pitch) && vectors_aligned(x);
  check_alignment("dx, dy, winners or x", aligned, winners);
  launch<lrn_maxpool_backward_kernel>(over_pixel_runs("lrn_maxpool_backward_kernel", both.pool, 3, stream), dx, dy,
                                      dy_pitch, winners, x, lrn_of(both), both.pool);
}

Cost lrn_maxpool_forward_cost(const MaxPool& p, bool with_winners) {
  const Cost lrn = lrn_forward_cost(p.images * p.height * p.width, p.channels);
  const Cost pool = with_winners ? maxpool_forward_with_winners_cost(p) : maxpool_forward_cost(p);
  return {lrn.flops + pool.flops, pool.bytes};
}

Cost lrn_maxpool_backward_cost(const MaxPool& p) {
  const Cost lrn = lrn_backward_cost(p.images * p.height * p.width, p.channels);
  const Cost pool = maxpool_backward_by_winners_cost(p);
  return {lrn.flops + pool.flops, pool.bytes + 4 * p.inputs()};
}

}  // namespace pyalexnet
