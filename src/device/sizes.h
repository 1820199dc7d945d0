// Sizes that come from outside: arithmetic that refuses instead of overflowing.
#pragma once

#include <initializer_list>

#include "device/check.h"

namespace pyalexnet {

// Extents along which kernels count with 32 bits, with room for padding and for several of them in a sum.
inline constexpr int64_t kLargestExtent = INT32_MAX / 8;

// The product of numbers that are not negative, or std::invalid_argument with the parts of a message that says what
// would have more than 63 bits.
template <class... Parts>
int64_t product(std::initializer_list<int64_t> factors, const Parts&... message) {
  int64_t result = 1;
  for (int64_t factor : factors) require(!__builtin_mul_overflow(result, factor, &result), message...);
  return result;
}

// The bytes of an array of floats, or std::invalid_argument naming it.
inline int64_t float_bytes(const char* name, const std::vector<int64_t>& shape) {
  int64_t bytes = sizeof(float);
  for (int64_t extent : shape) {
    bytes = product({bytes, extent}, name, " would have shape ", shape_text(shape), ", of more than 2**63 - 1 bytes");
  }
  return bytes;
}

}  // namespace pyalexnet
