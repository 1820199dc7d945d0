// What an operation must do at least: the yardstick that the benchmark measures it by.
#pragma once

#include <cstdint>

namespace pyalexnet {

struct Cost {
  int64_t flops;  // floating-point operations, a multiply-add counted as two
  int64_t bytes;  // of device memory, each input read once and each output written once
};

}  // namespace pyalexnet
