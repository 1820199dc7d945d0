#include "kernels/winograd_conv.cuh"

#include "device/rows.cuh"
#include "device/winograd.cuh"

namespace pyalexnet {

namespace {

// As in kernels/fourier_conv.cu, from the same measurements.
constexpr ElementCosts kCosts = {kVectorFloats < 16 ? 14 : 38, 4};

constexpr int64_t kTile = 2, kTaps = 3, kPlanes = 16;

// A GPU's thread has a lane, for a patch of quads would take 190 registers; its neighbours read the lanes beside it.
constexpr bool kVectors = kRunsOnCores;

// Maps in memory, of which each tile is read or written: `count` of them, each of down x across tiles, `step` pixels apart,
// the first one at (first_y, first_x). A pixel's lanes are contiguous, `lanes` in each group. Strides are in floats.
template <class Float>
struct TiledMaps {
  Float* data;
  int64_t count, groups, lanes;
  int64_t stride, row_stride, pixel_stride;
  int height, width;
  int down, across, step;
  int first_y, first_x;

  __host__ __device__ int64_t rows() const { return count * down * across * groups; }
};

// A row of the planes: where its tile's first pixel is, and its own elements in the first plane, of the group's first lane.
template <class Float>
struct TileOfRow {
  Float* map;
  int y, x;
  int64_t first_lane, place;

  PYALEXNET_INLINE TileOfRow(const TiledMaps<Float>& maps, const PlaneLayout& layout, int64_t index) {
    const Split of_group = split(index, maps.groups), of_row = split(of_group.quotient, maps.across),
                of_map = split(of_row.quotient, maps.down);
    first_lane = of_group.remainder * maps.lanes;
    map = maps.data + of_map.quotient * maps.stride + first_lane;
    y = maps.first_y + static_cast<int>(of_map.remainder) * maps.step;
    x = maps.first_x + static_cast<int>(of_row.remainder) * maps.step;
    place = of_group.remainder * layout.group_stride() + of_group.quotient * layout.columns;
  }

  // The lanes of the tile's pixel (i, j); nullptr where it is outside the map.
  PYALEXNET_INLINE Float* pixel(const TiledMaps<Float>& maps, int i, int j) const {
    const bool inside = static_cast<unsigned>(y + i) < static_cast<unsigned>(maps.height) &&
                        static_cast<unsigned>(x + j) < static_cast<unsigned>(maps.width);
    return inside ? map + (y + i) * maps.row_stride + (x + j) * maps.pixel_stride : nullptr;
  }
};

// The points of each tile, of zeros where it reaches beyond its map.
template <class T>
__global__ void __launch_bounds__(kMostRowThreads, 3)
    tiles_to_points_kernel(float* points, PlaneLayout layout, TiledMaps<const float> maps) {
  const ThreadShare mine = block_share(maps.rows());
  for (int64_t row = mine.begin; row < mine.end; row += mine.step) {
    const TileOfRow<const float> tile(maps, layout, row);
    for_each_row_vector(maps.lanes, kVectors, [&]<int N>(int64_t lane) {
      Vec<N> from[T::kFrom][T::kFrom], to[T::kTo][T::kTo];
      PYALEXNET_UNROLL
      for (int i = 0; i < T::kFrom; ++i) {
        PYALEXNET_UNROLL
        for (int j = 0; j < T::kFrom; ++j) {
          const float* const pixel = tile.pixel(maps, i, j);
          from[i][j] = pixel ? load<N>(pixel + lane) : broadcast<N>(0.0f);
        }
      }
      apply_both_ways<T>(to, from);
      float* next = points + tile.place + lane;
      PYALEXNET_UNROLL
      for (int i = 0; i < T::kTo; ++i) {
        PYALEXNET_UNROLL
        for (int j = 0; j < T::kTo; ++j, next += layout.plane_stride()) store(next, to[i][j]);
      }
    });
  }
}

// relu(tile + bias) for each tile, where its map has it; `bias` may be nullptr.
template <class T>
__global__ void __launch_bounds__(kMostRowThreads, 3)
    points_to_tiles_kernel(TiledMaps<float> maps, const float* points, PlaneLayout layout, const float* bias,
                           bool relu) {
  const ThreadShare mine = block_share(maps.rows());
  for (int64_t row = mine.begin; row < mine.end; row += mine.step) {
    const TileOfRow<float> tile(maps, layout, row);
    for_each_row_vector(maps.lanes, kVectors, [&]<int N>(int64_t lane) {
      Vec<N> from[T::kFrom][T::kFrom], to[T::kTo][T::kTo];
      const float* next = points + tile.place + lane;
      PYALEXNET_UNROLL
      for (int i = 0; i < T::kFrom; ++i) {
        PYALEXNET_UNROLL
        for (int j = 0; j < T::kFrom; ++j, next += layout.plane_stride()) from[i][j] = load<N>(next);
      }
      apply_both_ways<T>(to, from);
      const Vec<N> shift = bias ? load<N>(bias + tile.first_lane + lane) : broadcast<N>(0.0f);
      PYALEXNET_UNROLL
      for (int i = 0; i < T::kTo; ++i) {
        PYALEXNET_UNROLL
        for (int j = 0; j < T::kTo; ++j) {
          float* const pixel = tile.pixel(maps, i, j);
          if (!pixel) continue;
          const Vec<N> value = to[i][j] + shift;
          store(pixel + lane, relu ? pyalexnet::relu(value) : value);
        }
      }
    });
  }
}

// Blocks for the tiles of all maps and groups.
template <class Float>
Launch blocks_of(const char* kernel_name, const TiledMaps<Float>& maps, cudaStream_t stream) {
  constexpr int64_t kVector = kVectors ? kVectorFloats : 1, kBytes = 2 * kPlanes * kVector * sizeof(float);  // at most
  return share_out_rows(kernel_name, maps.rows(), ceil_div(maps.lanes, kVector), kBytes, stream);
}

template <class T>
void tiles_to_points(float* points, const PlaneLayout& layout, const TiledMaps<const float>& maps,
                     cudaStream_t stream) {
  static_assert(T::kTo * T::kTo == kPlanes);
  const Launch blocks = blocks_of("tiles_to_points_kernel", maps, stream);
  launch<tiles_to_points_kernel<T>>(blocks, points, layout, maps);
}

template <class T>
void points_to_tiles(const TiledMaps<float>& maps, const float* points, const PlaneLayout& layout, const float* bias,
                     bool relu, cudaStream_t stream) {
  static_assert(T::kFrom * T::kFrom == kPlanes);
  const Launch blocks = blocks_of("points_to_tiles_kernel", maps, stream);
  launch<points_to_tiles_kernel<T>>(blocks, maps, points, layout, bias, relu);
}

// Images, in so many tiles, the first one at (first_y, first_x).
template <class Float>
TiledMaps<Float> images(Float* data, const Correlation& c, int64_t height, int64_t width, int64_t channels,
                        const ImageStrides& strides, int64_t first_y, int64_t first_x) {
  return {.data = data,
          .count = c.batch,
          .groups = c.groups,
          .lanes = channels / c.groups,
          .stride = strides.image,
          .row_stride = strides.row,
          .pixel_stride = strides.pixel,
          .height = static_cast<int>(height),
          .width = static_cast<int>(width),
          .down = static_cast<int>(ceil_div(c.out_height, kTile)),
          .across = static_cast<int>(ceil_div(c.out_width, kTile)),
          .step = kTile,
          .first_y = static_cast<int>(first_y),
          .first_x = static_cast<int>(first_x)};
}

template <class Float>
TiledMaps<Float> results(Float* data, const Correlation& c) {
  return images(data, c, c.out_height, c.out_width, c.filters, dense_strides(c.out_height, c.out_width, c.filters), 0,
                0);
}

// Weights, a map of one tile for each of a group's channels and each filter.
template <class Float>
TiledMaps<Float> filters(Float* data, const Correlation& c) {
  const int64_t depth = c.channels / c.groups;
  return {.data = data,
          .count = depth,
          .groups = c.groups,
          .lanes = c.filters / c.groups,
          .stride = c.filters,
          .row_stride = kTaps * depth * c.filters,
          .pixel_stride = depth * c.filters,
          .height = kTaps,
          .width = kTaps,
          .down = 1,
          .across = 1,
          .step = kTaps,
          .first_y = 0,
          .first_x = 0};
}

}  // namespace

bool winograd_fits(const ConvShape& s) {
  return s.stride == 1 && s.kernel_height == kTaps && s.kernel_width == kTaps;
}

int64_t winograd_multiply_adds(const ConvShape& s, bool keeps_w_spectra) {
  return transformed_multiply_adds(s, kPlanes, WinogradTransform(forward_of(s)).rows(), kCosts, keeps_w_spectra);
}

void WinogradTransform::of_images(float* points, const PlaneLayout& layout, const float* in,
                                  const ImageStrides& strides, cudaStream_t stream) const {
  tiles_to_points<InputsToPoints>(
      points, layout,
      images(in, c_, c_.in_height, c_.in_width, c_.channels, strides, -c_.padding_top, -c_.padding_left), stream);
}

void WinogradTransform::of_weights(float* points, const PlaneLayout& layout, const float* w,
                                   cudaStream_t stream) const {
  tiles_to_points<TapsToPoints>(points, layout, filters(w, c_), stream);
}

void WinogradTransform::of_gradients(float* points, const PlaneLayout& layout, const float* dy,
                                     cudaStream_t stream) const {
  tiles_to_points<OutputsToPoints>(points, layout, results(dy, c_), stream);
}

void WinogradTransform::to_images(float* out, const float* products, const PlaneLayout& layout, const float* bias,
                                  bool relu, cudaStream_t stream) const {
  points_to_tiles<PointsToOutputs>(results(out, c_), products, layout, bias, relu, stream);
}

void WinogradTransform::to_weights(float* dw, const float* products, const PlaneLayout& layout,
                                   cudaStream_t stream) const {
  points_to_tiles<PointsToTaps>(filters(dw, c_), products, layout, nullptr, false, stream);
}

}  // namespace pyalexnet
