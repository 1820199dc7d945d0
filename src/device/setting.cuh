// Numbers of a launch that are others from step to step.
#pragma once

#include "device/platform.cuh"

namespace pyalexnet {

// A T that is given at the call, or that lies in device memory, where the kernel finds it when it runs: a launch that is
// captured once is replayed with what lies there then.
template <class T>
struct Setting {
  T value{};
  const T* place = nullptr;  // null: `value` counts

  PYALEXNET_INLINE T get() const { return place ? *place : value; }
};

}  // namespace pyalexnet
