// A fixed order of the numbers 0 … count-1 that is computed number by number, without a list.
#pragma once

#include "hostcuda.h"

#include <bit>
#include <cstdint>

namespace hostcuda {

class Permutation {
 public:
  Permutation() = default;
  Permutation(Order order, std::uint64_t count, std::uint64_t seed) : order_(order), count_(count) {
    if (order != Order::random) return;
    bits_ = std::bit_width(count - 1);
    mask_ = bits_ == 0 ? 0 : ~std::uint64_t{0} >> (64 - bits_);
    factor_ = mix(seed) | 1;
    offset_ = mix(seed + 1);
  }

  std::uint64_t operator()(std::uint64_t position) const {
    switch (order_) {
      case Order::ascending:
        return position;
      case Order::descending:
        return count_ - 1 - position;
      case Order::random:
        break;
    }
    // Each step of scramble() is one-to-one on the numbers of bits_ bits; walking on from those that are too
    // large makes it one-to-one on the numbers below count_. Less than half of all are too large.
    do position = scramble(position);
    while (position >= count_);
    return position;
  }

 private:
  std::uint64_t scramble(std::uint64_t x) const {
    const int half = bits_ / 2 + 1;
    x = (x * factor_ + offset_) & mask_;
    x ^= x >> half;
    x = (x * 0x9e3779b97f4a7c15u) & mask_;
    x ^= x >> half;
    return x;
  }

  // The finaliser of SplitMix64: neighbouring seeds give unrelated numbers.
  static std::uint64_t mix(std::uint64_t x) {
    x = (x + 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  Order order_ = Order::ascending;
  std::uint64_t count_ = 0;
  int bits_ = 0;
  std::uint64_t mask_ = 0, factor_ = 1, offset_ = 0;
};

}  // namespace hostcuda
