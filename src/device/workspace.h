// How an operation shares out its workspace among several arrays.
#pragma once

#include <vector>

#include "device/launch.cuh"
#include "device/sizes.h"

namespace pyalexnet {

// Of an array of floats, rounded up so that what lies behind it is aligned.
inline int64_t piece_bytes(const std::vector<int64_t>& shape) {
  return ceil_div(float_bytes("workspace", shape), 256) * 256;
}

// A piece of the workspace after the other.
class Pieces {
 public:
  explicit Pieces(void* workspace) : next_(static_cast<char*>(workspace)) {}

  float* take(int64_t bytes) {
    float* const piece = reinterpret_cast<float*>(next_);
    next_ += bytes;
    return piece;
  }
  void* rest() const { return next_; }

 private:
  char* next_;
};

}  // namespace pyalexnet
