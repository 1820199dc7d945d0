// Whether a device has tensor cores that take tf32 and bf16.
#pragma once

#include "device/precision.cuh"

namespace pyalexnet {

// From compute capability 8.0 on. sim executes their instruction, cores round operands themselves, and the ptx target has
// it in what is compiled for 8.0 or newer.
bool has_tensor_cores(int device);

// The precision of that name. Throws std::invalid_argument naming precision where there is none.
Precision precision_named(std::string_view name);

// Throws std::invalid_argument naming precision where the device cannot multiply in it.
void require_precision(Precision precision, int device);

}  // namespace pyalexnet
