// Vec<N>: N floats that move and compute together. On a GPU it is N registers that load and store in 16-byte accesses,
// and the sim target does just that; on CPU cores it is one vector register or several (GCC's and Clang's vector
// extensions).
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "device/platform.cuh"

#if defined(PYALEXNET_TARGET_CPU) && defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace pyalexnet {

#if defined(PYALEXNET_PLAIN_LANES)

template <int N>
struct alignas(N % 4 == 0 ? 16
               : N == 2   ? 8
                          : 4) Vec {
  float lanes[N];
  PYALEXNET_INLINE float operator[](int i) const { return lanes[i]; }
  PYALEXNET_INLINE void set(int i, float value) { lanes[i] = value; }
};

namespace detail {
// Floats at an address that must be aligned to all of them: a GPU refuses others, and so does sim.
template <class Floats>
PYALEXNET_INLINE Floats* aligned_at(float* address) {
#if defined(PYALEXNET_TARGET_SIM)
  if (reinterpret_cast<uintptr_t>(address) % sizeof(Floats) != 0) {
    throw std::logic_error("an access of " + std::to_string(sizeof(Floats)) +
                           " bytes to an address that is not aligned");
  }
#endif
  return reinterpret_cast<Floats*>(address);
}
PYALEXNET_INLINE float4* quad_at(float* address) {
  return aligned_at<float4>(address);
}

PYALEXNET_INLINE float multiply_add(float a, float b, float c) {
#if defined(__CUDACC__)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

template <int N, class Function>
PYALEXNET_INLINE Vec<N> lanewise(Function function) {
  Vec<N> result;
  PYALEXNET_UNROLL
  for (int i = 0; i < N; ++i) result.lanes[i] = function(i);
  return result;
}
}  // namespace detail

template <int N>
PYALEXNET_INLINE Vec<N> operator+(Vec<N> a, Vec<N> b) {
  return detail::lanewise<N>([&](int i) { return a.lanes[i] + b.lanes[i]; });
}
template <int N>
PYALEXNET_INLINE Vec<N> operator-(Vec<N> a, Vec<N> b) {
  return detail::lanewise<N>([&](int i) { return a.lanes[i] - b.lanes[i]; });
}
template <int N>
PYALEXNET_INLINE Vec<N> operator*(Vec<N> a, Vec<N> b) {
  return detail::lanewise<N>([&](int i) { return a.lanes[i] * b.lanes[i]; });
}
template <int N>
PYALEXNET_INLINE Vec<N> operator/(Vec<N> a, Vec<N> b) {
  return detail::lanewise<N>([&](int i) { return a.lanes[i] / b.lanes[i]; });
}
// a * b + c, in one rounding on a GPU.
template <int N>
PYALEXNET_INLINE Vec<N> fma(Vec<N> a, Vec<N> b, Vec<N> c) {
  return detail::lanewise<N>([&](int i) { return detail::multiply_add(a.lanes[i], b.lanes[i], c.lanes[i]); });
}
// a where test > 0, else b, lane by lane; b where test is NaN.
template <int N>
PYALEXNET_INLINE Vec<N> select_positive(Vec<N> test, Vec<N> a, Vec<N> b) {
  return detail::lanewise<N>([&](int i) { return test.lanes[i] > 0.0f ? a.lanes[i] : b.lanes[i]; });
}
template <int N>
PYALEXNET_INLINE Vec<N> sqrt(Vec<N> a) {
  return detail::lanewise<N>([&](int i) { return sqrtf(a.lanes[i]); });
}
template <int N>
PYALEXNET_INLINE Vec<N> broadcast(float value) {
  return detail::lanewise<N>([&](int) { return value; });
}
// N consecutive floats from an address aligned to 16 bytes (N a multiple of 4), 8 (N = 2) or 4 (other N).
template <int N>
PYALEXNET_INLINE Vec<N> load(const float* from) {
  Vec<N> result;
  if constexpr (N == 2) {
    const float2 pair = *detail::aligned_at<float2>(const_cast<float*>(from));
    return {pair.x, pair.y};
  } else if constexpr (N % 4 == 0) {
    PYALEXNET_UNROLL
    for (int i = 0; i < N; i += 4) {
      const float4 quad = *detail::quad_at(const_cast<float*>(from) + i);
      result.lanes[i] = quad.x, result.lanes[i + 1] = quad.y;
      result.lanes[i + 2] = quad.z, result.lanes[i + 3] = quad.w;
    }
    return result;
  }
  return detail::lanewise<N>([&](int i) { return from[i]; });
}
template <int N>
PYALEXNET_INLINE void store(float* to, Vec<N> value) {
  if constexpr (N == 2) {
    *detail::aligned_at<float2>(to) = make_float2(value.lanes[0], value.lanes[1]);
  } else {
    PYALEXNET_UNROLL
    for (int i = 0; i < N; i += (N % 4 == 0 ? 4 : 1)) {
      if constexpr (N % 4 == 0) {
        *detail::quad_at(to + i) =
            make_float4(value.lanes[i], value.lanes[i + 1], value.lanes[i + 2], value.lanes[i + 3]);
      } else {
        to[i] = value.lanes[i];
      }
    }
  }
}

#else

template <int N>
struct Vec {
  typedef float Lanes __attribute__((vector_size(N * sizeof(float))));
  Lanes lanes;
  // Through pointers because GCC takes a dependent vector type for a scalar; vectors may alias their lanes.
  PYALEXNET_INLINE float operator[](int i) const { return reinterpret_cast<const float*>(&lanes)[i]; }
  PYALEXNET_INLINE void set(int i, float value) { reinterpret_cast<float*>(&lanes)[i] = value; }
};

template <>
struct Vec<1> {
  float lanes;
  PYALEXNET_INLINE float operator[](int) const { return lanes; }
  PYALEXNET_INLINE void set(int, float value) { lanes = value; }
};

template <int N>
PYALEXNET_INLINE Vec<N> operator+(Vec<N> a, Vec<N> b) {
  return {a.lanes + b.lanes};
}
template <int N>
PYALEXNET_INLINE Vec<N> operator-(Vec<N> a, Vec<N> b) {
  return {a.lanes - b.lanes};
}
template <int N>
PYALEXNET_INLINE Vec<N> operator*(Vec<N> a, Vec<N> b) {
  return {a.lanes * b.lanes};
}
template <int N>
PYALEXNET_INLINE Vec<N> operator/(Vec<N> a, Vec<N> b) {
  return {a.lanes / b.lanes};
}
// a * b + c, in one rounding where the instruction set has fused multiply-add.
template <int N>
PYALEXNET_INLINE Vec<N> fma(Vec<N> a, Vec<N> b, Vec<N> c) {
  return {a.lanes * b.lanes + c.lanes};
}
// a where test > 0, else b, lane by lane; b where test is NaN.
template <int N>
PYALEXNET_INLINE Vec<N> select_positive(Vec<N> test, Vec<N> a, Vec<N> b) {
  return {test.lanes > 0.0f ? a.lanes : b.lanes};
}
template <int N>
PYALEXNET_INLINE Vec<N> sqrt(Vec<N> a) {
  float values[N];
  std::memcpy(values, &a.lanes, sizeof values);
  for (int i = 0; i < N; ++i) values[i] = std::sqrt(values[i]);
  std::memcpy(&a.lanes, values, sizeof values);
  return a;
}
template <int N>
PYALEXNET_INLINE Vec<N> broadcast(float value) {
  if constexpr (N == 1) {
    return {value};
  } else {
    return {value - typename Vec<N>::Lanes{}};
  }
}
// N consecutive floats from an address aligned to 16 bytes (N a multiple of 4) or 4 bytes (other N).
template <int N>
PYALEXNET_INLINE Vec<N> load(const float* from) {
  Vec<N> result;
  std::memcpy(&result.lanes, from, N * sizeof(float));
  return result;
}
template <int N>
PYALEXNET_INLINE void store(float* to, Vec<N> value) {
  std::memcpy(to, &value.lanes, N * sizeof(float));
}

#endif

// min(N, lanes) floats from `from`, `rest` in the other lanes. One access where all lanes are wanted and `aligned`
// says that N floats can be read at once.
template <int N>
PYALEXNET_INLINE Vec<N> load_lanes(const float* from, int lanes, bool aligned, float rest = 0.0f) {
  if (aligned && lanes >= N) return load<N>(from);
  Vec<N> value = broadcast<N>(rest);
  PYALEXNET_UNROLL
  for (int i = 0; i < N; ++i) {
    if (i < lanes) value.set(i, from[i]);
  }
  return value;
}

// The first min(N, lanes) floats of `value` to `to`.
template <int N>
PYALEXNET_INLINE void store_lanes(float* to, Vec<N> value, int lanes, bool aligned) {
  if (aligned && lanes >= N) return store(to, value);
  PYALEXNET_UNROLL
  for (int i = 0; i < N; ++i) {
    if (i < lanes) to[i] = value[i];
  }
}

// store, but on x86 cores past the caches, where the address is aligned to the whole vector: for what is read when caches
// have long forgotten it. An ordinary store first reads the line that it writes to. Only vectors of whole lines gain, of
// 64 bytes. Other threads see it after the kernel's end, as a GPU has it.
template <int N>
PYALEXNET_INLINE void store_past_caches(float* to, Vec<N> value) {
#if defined(PYALEXNET_TARGET_CPU) && defined(__AVX512F__)
  if constexpr (N == 16) {
    if (reinterpret_cast<uintptr_t>(to) % sizeof value == 0) {
      return _mm512_stream_ps(to, std::bit_cast<__m512>(value));
    }
  }
#endif
  store(to, value);
}

// Whether so many floats are out of a CPU core's caches before all are written: its share of the last one is some MiB.
__host__ __device__ inline bool outgrow_caches(int64_t floats) {
  constexpr int64_t kCachedBytes = int64_t{16} << 20;
  return kRunsOnCores && floats * int64_t{sizeof(float)} > kCachedBytes;
}

// Asks memory for the line at an address that is read soon, where a core's own prefetching would not: it follows a few rows
// that are read on and on, not many at a time. Any address is allowed. A GPU has other threads to run meanwhile. (GCC
// sees no effect here and drops calls of functions that do nothing else, unless they are inlined by PYALEXNET_INLINE.)
PYALEXNET_INLINE void ask_for([[maybe_unused]] const float* at) {
#if defined(PYALEXNET_TARGET_CPU)
  __builtin_prefetch(at);
#endif
}

// The same for what is read later, when a core's first cache has been filled anew: into the larger ones alone.
PYALEXNET_INLINE void ask_for_later([[maybe_unused]] const float* at) {
#if defined(PYALEXNET_TARGET_CPU)
  constexpr int kForReading = 0, kNotIntoTheFirstCache = 2;
  __builtin_prefetch(at, kForReading, kNotIntoTheFirstCache);
#endif
}

// Whether a kernel may use load and store at the array and at all multiples of the strides (in floats) from there: a
// GPU's 16-byte accesses must be aligned, CPU cores access vectors anywhere. Every launcher asks for each array that
// its kernel's vectors touch, and takes single elements where one answer is no; the bits are the same.
template <class... Strides>
inline bool vectors_aligned(const void* array, Strides... strides) {
  return kRunsOnCores || (reinterpret_cast<uintptr_t>(array) % 16 == 0 && (... && (strides % 4 == 0)));
}

// max(value, 0) lane by lane; NaN stays NaN.
template <int N>
PYALEXNET_INLINE Vec<N> relu(Vec<N> value) {
  const Vec<N> zero = broadcast<N>(0.0f);
  return select_positive(zero - value, zero, value);
}

}  // namespace pyalexnet
