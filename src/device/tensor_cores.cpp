#include "device/tensor_cores.h"

#include "device/check.h"

#if defined(PYALEXNET_TARGET_PTX)
#include "ptx/launch.h"
#endif

namespace pyalexnet {

bool has_tensor_cores([[maybe_unused]] int device) {
#if defined(PYALEXNET_TARGET_CUDA)
  int major = 0;
  PYALEXNET_CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return major >= 8;
#elif defined(PYALEXNET_TARGET_PTX)
  return ptx::architecture() >= 80;
#else
  return true;
#endif
}

Precision precision_named(std::string_view name) {
  std::string known;
  int number = 0;
  for (const std::string_view each : kPrecisionNames) {
    if (each == name) return static_cast<Precision>(number);
    known += (number++ ? ", " : "") + std::string(each);
  }
  require(false, "precision is '", name, "'; it must be one of ", known);
  return Precision::kFp32;
}

void require_precision(Precision precision, int device) {
  require(precision == Precision::kFp32 || has_tensor_cores(device), "precision is '", precision_name(precision),
          "'; on this device, which has no tensor cores for it (compute capability 8.0 or newer), it must be 'fp32'");
}

}  // namespace pyalexnet
