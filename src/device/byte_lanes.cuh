// Bytes beside the lanes of a Vec<N>: small whole numbers, one a lane, that take a quarter of the memory of floats.
#pragma once

#include "device/vec.cuh"

namespace pyalexnet {

#if defined(PYALEXNET_PLAIN_LANES)

template <int N>
struct ByteLanes {
  unsigned char lanes[N];

  PYALEXNET_INLINE static ByteLanes load(const uint8_t* from) {
    ByteLanes result;
    PYALEXNET_UNROLL
    for (int i = 0; i < N; i += 4) {
      const uchar4 four = *reinterpret_cast<const uchar4*>(from + i);
      result.lanes[i] = four.x, result.lanes[i + 1] = four.y, result.lanes[i + 2] = four.z,
      result.lanes[i + 3] = four.w;
    }
    return result;
  }
  PYALEXNET_INLINE static void store(uint8_t* to, Vec<N> value) {
    const auto byte = [&](int i) { return static_cast<unsigned char>(value.lanes[i]); };
    PYALEXNET_UNROLL
    for (int i = 0; i < N; i += 4) {
      *reinterpret_cast<uchar4*>(to + i) = make_uchar4(byte(i), byte(i + 1), byte(i + 2), byte(i + 3));
    }
  }
  PYALEXNET_INLINE Vec<N> select(int number, Vec<N> a, Vec<N> b) const {
    return detail::lanewise<N>([&](int i) { return lanes[i] == number ? a.lanes[i] : b.lanes[i]; });
  }
};

#else

template <int N>
struct ByteLanes;

// For each N, since GCC converts no vectors whose types depend on a template. A lane is widened where it is loaded.
#define PYALEXNET_BYTE_LANES(N)                                                                           \
  template <>                                                                                             \
  struct ByteLanes<N> {                                                                                   \
    typedef uint8_t Bytes __attribute__((vector_size(N)));                                                \
    typedef int32_t Integers __attribute__((vector_size(N * sizeof(int32_t))));                           \
    Integers lanes;                                                                                       \
                                                                                                          \
    PYALEXNET_INLINE static ByteLanes load(const uint8_t* from) {                                         \
      Bytes bytes;                                                                                        \
      std::memcpy(&bytes, from, N);                                                                       \
      return {__builtin_convertvector(bytes, Integers)};                                                  \
    }                                                                                                     \
    PYALEXNET_INLINE static void store(uint8_t* to, Vec<N> value) {                                       \
      const Bytes bytes = __builtin_convertvector(__builtin_convertvector(value.lanes, Integers), Bytes); \
      std::memcpy(to, &bytes, N);                                                                         \
    }                                                                                                     \
    PYALEXNET_INLINE Vec<N> select(int number, Vec<N> a, Vec<N> b) const {                                \
      return {(lanes == number) ? a.lanes : b.lanes};                                                     \
    }                                                                                                     \
  };
PYALEXNET_BYTE_LANES(4)
PYALEXNET_BYTE_LANES(8)
PYALEXNET_BYTE_LANES(16)
#undef PYALEXNET_BYTE_LANES

#endif

}  // namespace pyalexnet
