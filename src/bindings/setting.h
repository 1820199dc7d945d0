// Numbers of a launch, as Python gives them: an array in host memory, or on the stream's device.
#pragma once

#include <cstring>

#include "device/setting.cuh"
#include "device/stream.h"

namespace pyalexnet {

// The T that `array` holds: read now where it lies in host memory, and by the kernel where it lies on the device. Throws
// std::invalid_argument unless it is of that dtype and shape.
template <class T>
Setting<T> setting(const char* name, const Array& array, DType dtype, const std::vector<int64_t>& shape,
                   const Stream& stream) {
  require(array.dtype == dtype, name, " has dtype ", dtype_name(array.dtype), "; it must be ", dtype_name(dtype));
  require(array.shape == shape && array.contiguous(), name, " has shape ", shape_text(array.shape), "; it must be ",
          shape_text(shape), ", contiguous");
  Setting<T> found;
  if (array.device == kHost) {
    std::memcpy(&found.value, array.data, sizeof(T));
  } else {
    stream.on(array);
    require(reinterpret_cast<uintptr_t>(array.data) % alignof(T) == 0, name,
            " is at an address that is no multiple of ", alignof(T));
    found.place = static_cast<const T*>(array.data);
  }
  return found;
}

}  // namespace pyalexnet
