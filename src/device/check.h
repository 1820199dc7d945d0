// Errors: every CUDA call is checked, every argument is named.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "device/platform.cuh"

namespace pyalexnet {

// A CUDA call or kernel failed. what() names the call or kernel, CUDA's error and, where known, the reason.
class CudaError : public std::runtime_error {
 public:
  CudaError(const std::string& call, cudaError_t code);
  cudaError_t code;
};

// The device's memory limit was met. Python sees MemoryError.
class OutOfMemory : public CudaError {
 public:
  using CudaError::CudaError;
};

// Throws CudaError (OutOfMemory for cudaErrorMemoryAllocation) unless `code` is cudaSuccess.
void check_cuda(cudaError_t code, const char* call);

#define PYALEXNET_CHECK_CUDA(call) ::pyalexnet::check_cuda((call), #call)

// "(128, 227, 227, 3)", as Python prints a shape.
std::string shape_text(const std::vector<int64_t>& shape);

// Throws std::invalid_argument (Python: ValueError) with the parts joined into one message unless
// `condition`.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

}  // namespace pyalexnet
