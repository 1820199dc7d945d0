// DLPack: how arrays pass between libraries without a copy (dmlc.github.io/dlpack, ABI version 0.8 capsules).
#pragma once

#include <pybind11/pybind11.h>

#include "device/array.h"

namespace pyalexnet {

// DLDeviceType's values for the memory that our targets use.
inline constexpr int kDlpackCpu = 1;
inline constexpr int kDlpackCuda = 2;

// A "dltensor" capsule that keeps the array's memory alive until its consumer is done with it.
pybind11::capsule to_dlpack(const Array& array, int device_type);

// Takes over a "dltensor" capsule. Throws std::invalid_argument when it is of another kind of device, has
// been used already, or holds a dtype that Array has not.
Array from_dlpack(pybind11::capsule capsule, int device_type);

}  // namespace pyalexnet
