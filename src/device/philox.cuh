// Philox4x32-10, the counter-based random generator of Salmon, Moraes, Dror and Shaw, "Parallel random
// numbers: as easy as 1, 2, 3" (SC 2011): 128 random bits that depend on a 64-bit key and a 128-bit counter
// alone, so that any thread of any device draws any element's number without state. For kernels and for the
// host.
#pragma once

#include "device/platform.cuh"

namespace pyalexnet {

struct PhiloxCounter {
  uint32_t words[4];
};

// Ten rounds over `counter` with the key's low and high 32 bits.
__host__ PYALEXNET_INLINE PhiloxCounter philox(PhiloxCounter counter, uint64_t key) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kKeyStep0 = 0x9E3779B9, kKeyStep1 = 0xBB67AE85;
  constexpr int kRounds = 10;
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter.words[0],
                   product1 = uint64_t{kMultiplier1} * counter.words[2];
    const uint32_t high0 = static_cast<uint32_t>(product0 >> 32), high1 = static_cast<uint32_t>(product1 >> 32);
    counter = {{high1 ^ counter.words[1] ^ key0, static_cast<uint32_t>(product1), high0 ^ counter.words[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += kKeyStep0, key1 += kKeyStep1;
  }
  return counter;
}

// The four numbers that the stream `offset` of the seed holds for elements 4 * group to 4 * group + 3.
__host__ PYALEXNET_INLINE PhiloxCounter philox_group(uint64_t seed, uint64_t offset, uint64_t group) {
  return philox({{static_cast<uint32_t>(group), static_cast<uint32_t>(group >> 32), static_cast<uint32_t>(offset),
                  static_cast<uint32_t>(offset >> 32)}},
                seed);
}

}  // namespace pyalexnet
