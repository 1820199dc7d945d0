#include "kernels/spectra.cuh"

#include "device/fourier.cuh"
#include "device/launch.cuh"
#include "device/sizes.h"

namespace pyalexnet {

namespace {

using Tile = SpectrumTile;
using Lanes = Vec<Tile::kVector>;
constexpr int kVectors = Tile::kLanes / Tile::kVector;

// Of a block that transforms N points a side: one for each vector of a spectrum's columns, which take longest.
template <int N>
constexpr int kThreads = kRunsOnCores ? 1 : ((N / 2 + 1) * kVectors + 31) / 32 * 32;

#if defined(PYALEXNET_TARGET_CPU)
// Where a map has fewer lanes than a vector. Out of line: kernels unroll hundreds of accesses.
__attribute__((noinline)) void copy_lanes(float* to, const float* from, int lanes) {
  for (int i = 0; i < lanes; ++i) to[i] = from[i];
}
PYALEXNET_INLINE Lanes load_few(const float* from, int lanes) {
  float few[Tile::kVector] = {};
  copy_lanes(few, from, lanes);
  return load<Tile::kVector>(few);
}
PYALEXNET_INLINE void store_few(float* to, Lanes value, int lanes) {
  float few[Tile::kVector];
  store(few, value);
  copy_lanes(to, few, lanes);
}
#else
PYALEXNET_INLINE Lanes load_few(const float* from, int lanes) {
  return load_lanes<Tile::kVector>(from, lanes, true);
}
PYALEXNET_INLINE void store_few(float* to, Lanes value, int lanes) {
  store_lanes(to, value, lanes, true);
}
#endif

// How the lanes of a block are accessed: without a question where it has all, which is asked once, or as many as there
// are.
template <bool all>
struct LaneAccess {
  static PYALEXNET_INLINE Lanes load(const float* from, int lanes) {
    if constexpr (all) return pyalexnet::load<Tile::kVector>(from);
    return load_few(from, lanes);
  }
  static PYALEXNET_INLINE void store(float* to, Lanes value, int lanes) {
    if constexpr (all) return pyalexnet::store(to, value);
    store_few(to, value, lanes);
  }
  static PYALEXNET_INLINE void store_plane(float* to, Lanes value, int lanes, bool past_caches) {
    if constexpr (all) {
      if (past_caches) return store_past_caches(to, value);
    }
    store(to, value, lanes);
  }
};

// The maps' rows in spectra: a row's real parts, then its imaginary ones, as HalfSpectrum has them.
template <int N>
struct RowSpectra {
  static constexpr int kHalf = N / 2;
  float at[N][N][Tile::kLanes];

  PYALEXNET_INLINE Lanes re(int row, int column, int lane) const { return load<Tile::kVector>(at[row][column] + lane); }
  PYALEXNET_INLINE Lanes im(int row, int column, int lane) const {
    return load<Tile::kVector>(at[row][kHalf + column] + lane);
  }
  PYALEXNET_INLINE void set_re(int row, int column, int lane, Lanes value) { store(at[row][column] + lane, value); }
  PYALEXNET_INLINE void set_im(int row, int column, int lane, Lanes value) {
    store(at[row][kHalf + column] + lane, value);
  }
};

// The map that a block transforms, kLanes of a group's lanes or what is left of them, and where its spectra are from
// those of the first one on.
struct BlockLanes {
  int64_t map, first_lane;
  int count;
  int64_t spectrum, plane_stride;

  PYALEXNET_INLINE explicit BlockLanes(const PlaneLayout& layout) {
    const auto chunks = static_cast<unsigned>(ceil_div(layout.columns, Tile::kLanes));
    const auto groups = static_cast<unsigned>(layout.groups);
    const int64_t group = blockIdx.x / chunks % groups, first = int64_t{blockIdx.x % chunks} * Tile::kLanes;
    map = blockIdx.x / chunks / groups;
    first_lane = group * layout.columns + first;
    count = static_cast<int>(layout.columns - first);
    spectrum = group * layout.group_stride() + map * layout.columns + first;
    plane_stride = layout.plane_stride();
  }

  // Calls body(LaneAccess()).
  template <class Body>
  PYALEXNET_INLINE void with_access(Body body) const {
    if constexpr (Tile::kVector > 1) {
      if (count >= Tile::kLanes) return body(LaneAccess<true>());
    }
    body(LaneAccess<false>());
  }
};

// Calls body(item, lane) for `count` items and the block's lanes, shared out over its threads: a vector of lanes each.
template <int N, class Body>
PYALEXNET_INLINE void for_each_vector_of_lanes(int count, Body body) {
  for (int i = threadIdx.x; i < count * kVectors; i += kThreads<N>) {
    body(i / kVectors, i % kVectors * Tile::kVector);
  }
}

// The map's element at a point; -1 for the zeros around it.
template <int N>
PYALEXNET_INLINE int element_at(const MapAxis& axis, int point) {
  const int element = axis.sign > 0 ? point - axis.offset : axis.offset - point;
  const int wrapped = element < 0 ? element + N : element;
  return wrapped < axis.extent ? wrapped : -1;
}

// Planes of the spectrum's column k: of the first and the last column first, two real numbers and N/2 - 1 complex ones
// each, then N complex ones of each other column.
template <int N>
PYALEXNET_INLINE int first_plane_of_column(int k) {
  constexpr int half = N / 2, real_column = 2 + 3 * (half - 1);
  return k == 0 ? 0 : k == half ? real_column : 2 * real_column + (k - 1) * 3 * N;
}

// Writes the planes of a column, one after the other.
template <Side side, class Access>
struct PlaneWriter {
  float* next;
  int64_t stride;
  int lanes;
  bool past_caches;

  PYALEXNET_INLINE void write(Lanes value) {
    Access::store_plane(next, value, lanes, past_caches);
    next += stride;
  }
  PYALEXNET_INLINE void write(Lanes re, Lanes im) {
    if constexpr (side == Side::kLeft) {
      write(re + im), write(re), write(im);
    } else {
      write(re), write(im - re), write(re + im);
    }
  }
};

// Reads the planes of a column, and asks for the lines that the next block of lanes reads, which mostly lie behind these.
template <class Access>
struct PlaneReader {
  const float* next;
  int64_t stride;
  int lanes;

  PYALEXNET_INLINE Lanes read() {
    const Lanes value = Access::load(next, lanes);
    ask_for(next + Tile::kLanes);
    next += stride;
    return value;
  }
  PYALEXNET_INLINE void read(Lanes& re, Lanes& im) {
    const Lanes k1 = read(), k2 = read(), k3 = read();
    re = k1 - k3, im = k1 + k2;
  }
};

template <int N, Side side, class Access>
PYALEXNET_INLINE void block_to_spectra(float* spectra, const Maps<const float>& maps, const BlockLanes& block, Access) {
  constexpr int V = Tile::kVector, half = N / 2;
  auto& rows = shared_memory<RowSpectra<N>>();
  const float* const map = maps.data + block.map * maps.stride + block.first_lane;
  const int lanes = block.count;
  const bool past_caches = outgrow_caches(maps.count * planes_of(N) * maps.lanes);

  for_each_vector_of_lanes<N>(maps.y.extent, [&](int row, int lane) {
    Vec<V> x[N];
    PYALEXNET_UNROLL
    for (int j = 0; j < N; ++j) {
      const int column = element_at<N>(maps.x, j);
      x[j] = column < 0 ? broadcast<V>(0.0f)
                        : Access::load(map + row * maps.row_stride + column * maps.pixel_stride + lane, lanes - lane);
    }
    const HalfSpectrum<N, V> spectrum = transform<N, V>(x);
    PYALEXNET_UNROLL
    for (int k = 0; k <= half; ++k) rows.set_re(row, k, lane, spectrum.re[k]);
    PYALEXNET_UNROLL
    for (int k = 1; k < half; ++k) rows.set_im(row, k, lane, spectrum.im[k]);
  });
  __syncthreads();

  for_each_vector_of_lanes<N>(half + 1, [&](int k, int lane) {
    if (lane >= lanes) return;
    float* const first_plane = spectra + block.spectrum + first_plane_of_column<N>(k) * block.plane_stride;
    PlaneWriter<side, Access> out{first_plane + lane, block.plane_stride, lanes - lane, past_caches};
    const auto transform_column = [&](auto part) {
      Vec<V> x[N];
      PYALEXNET_UNROLL
      for (int j = 0; j < N; ++j) {
        const int row = element_at<N>(maps.y, j);
        x[j] = row < 0 ? broadcast<V>(0.0f) : part(row);
      }
      return transform<N, V>(x);
    };
    const HalfSpectrum<N, V> p = transform_column([&](int row) { return rows.re(row, k, lane); });
    if (k == 0 || k == half) {
      out.write(p.re[0]), out.write(p.re[half]);
      PYALEXNET_UNROLL
      for (int u = 1; u < half; ++u) out.write(p.re[u], p.im[u]);
      return;
    }
    const HalfSpectrum<N, V> q = transform_column([&](int row) { return rows.im(row, k, lane); });
    out.write(p.re[0], q.re[0]), out.write(p.re[half], q.re[half]);
    PYALEXNET_UNROLL
    for (int u = 1; u < half; ++u) {
      out.write(p.re[u] - q.im[u], p.im[u] + q.re[u]);  // row u
      out.write(p.re[u] + q.im[u], q.re[u] - p.im[u]);  // row N - u
    }
  });
}

template <int N, Side side>
__global__ void __launch_bounds__(kThreads<N>)
    to_spectra_kernel(float* spectra, PlaneLayout layout, Maps<const float> maps) {
  const BlockLanes block(layout);
  block.with_access([&](auto access) { block_to_spectra<N, side>(spectra, maps, block, access); });
}

template <int N, class Access>
PYALEXNET_INLINE void block_from_spectra(const Maps<float>& maps, const float* products, const float* bias, bool relu,
                                         const BlockLanes& block, Access) {
  constexpr int V = Tile::kVector, half = N / 2;
  auto& rows = shared_memory<RowSpectra<N>>();
  const int lanes = block.count;

  for_each_vector_of_lanes<N>(half + 1, [&](int k, int lane) {
    const float* const first_plane = products + block.spectrum + first_plane_of_column<N>(k) * block.plane_stride;
    PlaneReader<Access> in{first_plane + lane, block.plane_stride, lanes - lane};
    const auto transform_column = [&](const HalfSpectrum<N, V>& doubled, auto keep) {
      Vec<V> x[N];
      transform_back<N, V>(x, doubled);
      PYALEXNET_UNROLL
      for (int j = 0; j < N; ++j) {
        const int row = element_at<N>(maps.y, j);
        if (row >= 0) keep(row, x[j]);
      }
    };
    const auto keep_re = [&](int row, Vec<V> value) { rows.set_re(row, k, lane, value); };
    const auto keep_im = [&](int row, Vec<V> value) { rows.set_im(row, k, lane, value); };
    HalfSpectrum<N, V> p, q;
    if (k == 0 || k == half) {
      p.re[0] = in.read(), p.re[half] = in.read();
      PYALEXNET_UNROLL
      for (int u = 1; u < half; ++u) {
        Vec<V> re, im;
        in.read(re, im);
        p.re[u] = re + re, p.im[u] = im + im;
      }
      return transform_column(p, keep_re);
    }
    in.read(p.re[0], q.re[0]), in.read(p.re[half], q.re[half]);
    PYALEXNET_UNROLL
    for (int u = 1; u < half; ++u) {
      Vec<V> re, im, other_re, other_im;
      in.read(re, im), in.read(other_re, other_im);
      p.re[u] = re + other_re, p.im[u] = im - other_im;
      q.re[u] = im + other_im, q.im[u] = other_re - re;
    }
    transform_column(p, keep_re);
    transform_column(q, keep_im);
  });
  __syncthreads();

  float* const map = maps.data + block.map * maps.stride + block.first_lane;
  const Vec<V> scale = broadcast<V>(1.0f / (N * N));
  for_each_vector_of_lanes<N>(maps.y.extent, [&](int row, int lane) {
    if (lane >= lanes) return;
    HalfSpectrum<N, V> doubled;
    doubled.re[0] = rows.re(row, 0, lane), doubled.re[half] = rows.re(row, half, lane);
    PYALEXNET_UNROLL
    for (int k = 1; k < half; ++k) {
      const Vec<V> re = rows.re(row, k, lane), im = rows.im(row, k, lane);
      doubled.re[k] = re + re, doubled.im[k] = im + im;
    }
    Vec<V> x[N];
    transform_back<N, V>(x, doubled);
    const Vec<V> shift = bias ? Access::load(bias + block.first_lane + lane, lanes - lane) : broadcast<V>(0.0f);
    PYALEXNET_UNROLL
    for (int j = 0; j < N; ++j) {
      const int column = element_at<N>(maps.x, j);
      if (column < 0) continue;
      const Vec<V> value = fma(x[j], scale, shift);
      Access::store(map + row * maps.row_stride + column * maps.pixel_stride + lane,
                    relu ? pyalexnet::relu(value) : value, lanes - lane);
    }
  });
}

template <int N>
__global__ void __launch_bounds__(kThreads<N>)
    from_spectra_kernel(Maps<float> maps, const float* products, PlaneLayout layout, const float* bias, bool relu) {
  const BlockLanes block(layout);
  block.with_access([&](auto access) { block_from_spectra<N>(maps, products, bias, relu, block, access); });
}

// Calls body(N), a constant, with the number of points.
template <class Body>
void with_points(int points, Body body) {
  [&]<size_t... Index>(std::index_sequence<Index...>) {
    ((points == kSpectrumPoints[Index] ? body(std::integral_constant<int, kSpectrumPoints[Index]>()) : void()), ...);
  }(std::make_index_sequence<std::size(kSpectrumPoints)>());
}

template <int N, class Float>
Launch blocks_of(const char* kernel_name, const Maps<Float>& maps, cudaStream_t stream) {
  const int64_t chunks = ceil_div(maps.lanes / maps.groups, Tile::kLanes);
  const int64_t blocks =
      product({maps.count, maps.groups, chunks}, kernel_name, " would need more than 2**63 - 1 blocks");
  require(blocks <= INT32_MAX, kernel_name, " would need ", blocks, " blocks; it must be at most ", INT32_MAX);
  return {kernel_name, dim3(static_cast<unsigned>(blocks)), dim3(kThreads<N>), stream, sizeof(RowSpectra<N>)};
}

}  // namespace

void to_spectra(float* spectra, const PlaneLayout& layout, int points, Side side, const Maps<const float>& maps,
                cudaStream_t stream) {
  with_points(points, [&]<int N>(std::integral_constant<int, N>) {
    const Launch blocks = blocks_of<N>("to_spectra_kernel", maps, stream);
    if (side == Side::kLeft) {
      launch<to_spectra_kernel<N, Side::kLeft>>(blocks, spectra, layout, maps);
    } else {
      launch<to_spectra_kernel<N, Side::kRight>>(blocks, spectra, layout, maps);
    }
  });
}

void from_spectra(const Maps<float>& maps, int points, const float* products, const PlaneLayout& layout,
                  const float* bias, bool relu, cudaStream_t stream) {
  with_points(points, [&]<int N>(std::integral_constant<int, N>) {
    const Launch blocks = blocks_of<N>("from_spectra_kernel", maps, stream);
    launch<from_spectra_kernel<N>>(blocks, maps, products, layout, bias, relu);
  });
}

}  // namespace pyalexnet
