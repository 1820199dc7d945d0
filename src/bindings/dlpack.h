// DLPack: how arrays pass between libraries without a copy (dmlc.github.io/dlpack). Both kinds of capsules: those of
// version 1, and those from before DLPack had versions.
#pragma once

#include <pybind11/pybind11.h>

#include "device/array.h"

namespace pyalexnet {

// DLDeviceType's values for the memory that our targets use.
inline constexpr int kDlpackCpu = 1;
inline constexpr int kDlpackCuda = 2;

// A capsule that keeps the array's memory alive until its consumer is done with it: "dltensor_versioned", or "dltensor"
// for a consumer that knows no versions. `copied` tells it that nobody else reads or writes the memory.
pybind11::capsule to_dlpack(const Array& array, int device_type, bool versioned, bool copied);

// What a capsule held: the memory of another library, as it describes it. Its last copy gives the memory back.
struct DlpackArray {
  std::shared_ptr<void> owner;
  int device_type, device_id;
  uintptr_t address;
  int type_code, type_bits, type_lanes;
  std::vector<int64_t> shape, strides;  // strides in elements
  bool read_only;
};

// Takes over a capsule of either kind. Throws std::invalid_argument when it is none, has been used already, or is of a
// version with another layout.
DlpackArray from_dlpack(const pybind11::capsule& capsule);

}  // namespace pyalexnet
