#include "device/check.h"

namespace pyalexnet {

namespace {

// What the target can add to the last CUDA error reported to this thread: which block failed and why.
// Empty on a GPU, which does not tell.
std::string error_detail() {
#if defined(PYALEXNET_TARGET_CUDA)
  return {};
#else
  return hostcuda::error_detail();
#endif
}

std::string describe(const std::string& call, cudaError_t code) {
  std::string text = call + ": " + cudaGetErrorString(code) + " (" + cudaGetErrorName(code) + ")";
  const std::string detail = error_detail();
  return detail.empty() ? text : text + ": " + detail;
}

}  // namespace

CudaError::CudaError(const std::string& call, cudaError_t code)
    : std::runtime_error(describe(call, code)), code(code) {}

void check_cuda(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // the error is reported here: leave none behind for the next call
  if (code == cudaErrorMemoryAllocation) throw OutOfMemory(call, code);
  throw CudaError(call, code);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    text += (axis ? ", " : "") + std::to_string(shape[axis]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

}  // namespace pyalexnet
