#include "device/tensor_cores.h"

#include "device/check.h"

namespace pyalexnet {

bool has_tensor_cores([[maybe_unused]] int device) {
#if defined(PYALEXNET_TARGET_CUDA)
  int major = 0;
  PYALEXNET_CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return major >= 8;
#elif defined(PYALEXNET_TARGET_PTX)
  return PYALEXNET_PTX_ARCHITECTURE >= 80;
#else
  return true;
#endif
}

void require_precision(Precision precision) {
  if (precision == Precision::kFp32) return;
  int device = 0;
  PYALEXNET_CHECK_CUDA(cudaGetDevice(&device));
  require(has_tensor_cores(device), "precision is '", precision_name(precision),
          "'; on this device, which has no tensor cores for it (compute capability 8.0 or newer), it must be fp32");
}

}  // namespace pyalexnet
