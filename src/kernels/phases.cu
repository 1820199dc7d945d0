#include "kernels/phases.cuh"

#include "device/rows.cuh"

namespace pyalexnet {

namespace {

// A block takes rows of the matrix, a thread columns.
__global__ void weights_by_phase_kernel(float* to, const float* w, ConvShape s, StridedGradient g) {
  const int64_t filters = s.filters / s.groups, channels = s.channels / s.groups;
  const ThreadShare rows = block_share(g.terms());
  const ThreadShare columns = row_share(g.columns());
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split taps_k = split(row, filters);
    const Split down_across = split(taps_k.quotient, g.across.taps);
    const int64_t first_ky = (g.down.taps - 1 - down_across.quotient) * s.stride;
    const int64_t first_kx = (g.across.taps - 1 - down_across.remainder) * s.stride;
    for (int64_t column = columns.begin; column < columns.end; column += columns.step) {
      const Split phases_c = split(column, channels);
      const Split rest_b = split(phases_c.quotient, g.across.count);
      const Split group_a = split(rest_b.quotient, g.down.count);
      const int64_t ky = first_ky + group_a.remainder, kx = first_kx + rest_b.remainder;
      const int64_t filter = group_a.quotient * filters + taps_k.remainder;
      const bool seen = ky < s.kernel_height && kx < s.kernel_width;
      const int64_t from = ((ky * s.kernel_width + kx) * channels + phases_c.remainder) * s.filters + filter;
      to[row * g.columns() + column] = seen ? w[from] : 0.0f;
    }
  }
}

// A block takes rows of dx, a thread pixels.
__global__ void pixels_of_phases_kernel(float* dx, const float* phases, ConvShape s, StridedGradient g) {
  const int64_t channels = s.channels / s.groups;
  const ThreadShare rows = block_share(s.batch * s.height);
  const ThreadShare columns = row_share(s.width);
  for (int64_t row = rows.begin; row < rows.end; row += rows.step) {
    const Split image_y = split(row, s.height);
    const Split down = split(image_y.remainder + s.padding, s.stride);
    const int64_t phase_row = image_y.quotient * g.down.extent + down.quotient - g.down.first;
    for (int64_t x = columns.begin; x < columns.end; x += columns.step) {
      const Split across = split(x + s.padding, s.stride);
      const int64_t pixel = phase_row * g.across.extent + across.quotient - g.across.first;
      const bool seen = down.remainder < g.down.count && across.remainder < g.across.count;
      float* const to = dx + (row * s.width + x) * s.channels;
      for (int64_t group = 0; group < s.groups; ++group) {
        const int64_t phase = (group * g.down.count + down.remainder) * g.across.count + across.remainder;
        const float* const from = phases + pixel * g.columns() + phase * channels;
        for (int64_t c = 0; c < channels; ++c) to[group * channels + c] = seen ? from[c] : 0.0f;
      }
    }
  }
}

}  // namespace

void weights_by_phase(float* to, const float* w, const ConvShape& s, cudaStream_t stream) {
  const StridedGradient g(s);
  launch<weights_by_phase_kernel>(
      share_out_rows("weights_by_phase_kernel", g.terms(), g.columns(), 2 * sizeof(float), stream), to, w, s, g);
}

void pixels_of_phases(float* dx, const float* phases, const ConvShape& s, cudaStream_t stream) {
  const int64_t bytes_per_pixel = 2 * s.channels * int64_t{sizeof(float)};
  launch<pixels_of_phases_kernel>(
      share_out_rows("pixels_of_phases_kernel", s.batch * s.height, s.width, bytes_per_pixel, stream), dx, phases, s,
      StridedGradient(s));
}

}  // namespace pyalexnet
