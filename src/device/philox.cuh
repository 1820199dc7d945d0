// Philox4x32-10, the counter-based random generator of Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3" (SC 2011): 128 random bits that depend on a 64-bit key and a 128-bit counter
// alone, so that any thread of any device draws any element's number without state. For kernels and for the
// host.
#pragma once

#include "device/platform.cuh"

#if defined(PYALEXNET_TARGET_CPU) && defined(__SSE2__)
#include <immintrin.h>
#endif

namespace pyalexnet {

struct PhiloxCounter {
  uint32_t words[4];
};

namespace detail {
// The product of two words that are the lower halves of 64-bit numbers, whatever the upper halves are.
__host__ PYALEXNET_INLINE uint64_t product_of_words(uint64_t a, uint32_t b) {
  return uint64_t{static_cast<uint32_t>(a)} * b;
}

#if defined(PYALEXNET_TARGET_CPU)
typedef uint64_t Words __attribute__((vector_size(kVectorFloats * sizeof(float))));

// By name, since GCC multiplies whole 64-bit numbers here, in a dozen instructions.
PYALEXNET_INLINE Words product_of_words(Words a, uint32_t b) {
  const Words factor = Words{} + uint64_t{b};
#if defined(__AVX512F__)
  // (The intrinsic without a mask passes an uninitialised vector, about which GCC 12 warns.)
  return reinterpret_cast<Words>(
      _mm512_maskz_mul_epu32(0xff, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(factor)));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(factor)));
#elif defined(__SSE2__) && !defined(__AVX__)
  return reinterpret_cast<Words>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(factor)));
#else
  return (a & 0xffffffff) * factor;
#endif
}
#endif

// Ten rounds with the key's low and high 32 bits. The counter's words are the lower halves of 64-bit numbers, one a
// Word or a vector of them; so are the results.
template <class Word>
__host__ PYALEXNET_INLINE void philox_rounds(Word (&words)[4], uint64_t key) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kKeyStep0 = 0x9E3779B9, kKeyStep1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kRounds; ++round) {
    const Word product0 = product_of_words(words[0], kMultiplier0), product1 = product_of_words(words[2], kMultiplier1);
    words[0] = (product1 >> 32) ^ words[1] ^ uint64_t { key0 }, words[1] = product1;
    words[2] = (product0 >> 32) ^ words[3] ^ uint64_t { key1 }, words[3] = product0;
    key0 += kKeyStep0, key1 += kKeyStep1;
  }
}
}  // namespace detail

// The counter after ten rounds with the key.
__host__ PYALEXNET_INLINE PhiloxCounter philox(PhiloxCounter counter, uint64_t key) {
  uint64_t words[4] = {counter.words[0], counter.words[1], counter.words[2], counter.words[3]};
  detail::philox_rounds(words, key);
  return {{static_cast<uint32_t>(words[0]), static_cast<uint32_t>(words[1]), static_cast<uint32_t>(words[2]),
           static_cast<uint32_t>(words[3])}};
}

// What one thread draws at once: on CPU cores a few vectors of counters, whose rounds overlap.
inline constexpr int kDraws = kRunsOnCores ? 64 : 4;

// The numbers that the stream `offset` of the seed holds for elements 4 * group to 4 * group + kDraws - 1.
PYALEXNET_INLINE void draw(uint32_t (&draws)[kDraws], uint64_t seed, uint64_t offset, uint64_t group) {
#if defined(PYALEXNET_TARGET_CPU)
  using detail::Words;
  constexpr int kCounters = sizeof(Words) / sizeof(uint64_t);
  for (int g = 0; g < kDraws / 4; g += kCounters) {
    Words number = Words{} + group + g;
    for (int lane = 0; lane < kCounters; ++lane) number[lane] += lane;
    Words words[4] = {number, number >> 32, Words{} + offset, Words{} + (offset >> 32)};
    detail::philox_rounds(words, seed);
    const Words first = (words[0] & 0xffffffff) | (words[1] << 32), second = (words[2] & 0xffffffff) | (words[3] << 32);
    for (int lane = 0; lane < kCounters; ++lane) {
      uint32_t* const four = draws + 4 * (g + lane);
      four[0] = static_cast<uint32_t>(first[lane]), four[1] = static_cast<uint32_t>(first[lane] >> 32);
      four[2] = static_cast<uint32_t>(second[lane]), four[3] = static_cast<uint32_t>(second[lane] >> 32);
    }
  }
#else
  const PhiloxCounter drawn = philox({{static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32),
                                       static_cast<uint32_t>(offset), static_cast<uint32_t>(offset >> 32)}},
                                     seed);
  for (int word = 0; word < 4; ++word) draws[word] = drawn.words[word];
#endif
}

}  // namespace pyalexnet
