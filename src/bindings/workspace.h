// Scratch memory for kernels that need some, handed in by the caller.
#pragma once

#include "device/array.h"

namespace pyalexnet {

// The start of `workspace`, which must be contiguous and have at least `bytes_needed` bytes, of any type.
inline void* workspace_memory(const Array& workspace, int64_t bytes_needed) {
  const int64_t bytes = workspace.size() * item_bytes(workspace.dtype);
  require(workspace.contiguous() && bytes >= bytes_needed, "workspace has ", bytes, " bytes; it must have ",
          bytes_needed, " or more, contiguous");
  require(reinterpret_cast<uintptr_t>(workspace.data) % 16 == 0,
          "workspace is at an address that is no multiple of 16");
  return workspace.data;
}

}  // namespace pyalexnet
