// The frame of every API call: the runtime, the forked child, errors and their texts.
#include "runtime.h"

#include <pthread.h>

#include <new>
#include <system_error>

namespace hostcuda {

namespace {

struct HostThread {
  int device = 0;
  cudaError_t last_error = cudaSuccess;
  std::string detail;
};
thread_local HostThread host_thread;

std::mutex creation_mutex;
Configuration pending_configuration;
bool pending_guards = false;
std::atomic<Runtime*> the_runtime = nullptr;
// The cores do not exist in a forked child, and the mutex may be locked for ever.
bool forked = false;

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) host_thread.last_error = error;
  return error;
}

}  // namespace

Runtime& runtime() {
  if (Runtime* existing = the_runtime.load(std::memory_order_acquire)) return *existing;
  const std::lock_guard lock(creation_mutex);
  if (!the_runtime) {
    the_runtime = new Runtime(pending_configuration, pending_guards);
    pthread_atfork(nullptr, nullptr, [] { forked = true; });
  }
  return *the_runtime;
}

cudaError_t api_call(const std::function<cudaError_t(Runtime&)>& function) {
  host_thread.detail.clear();
  if (forked) {
    return remember(error_with_detail(cudaErrorInitializationError,
                                      "this process was forked from one that had used its devices already"));
  }
  try {
    return remember(function(runtime()));
  } catch (const std::bad_alloc&) {
    return remember(error_with_detail(cudaErrorMemoryAllocation, "the host is out of memory"));
  } catch (const std::system_error& error) {
    return remember(error_with_detail(cudaErrorInitializationError, error.what()));  // no more threads, say
  }
}

int current_device() {
  return host_thread.device;
}
void set_current_device(int device) {
  host_thread.device = device;
}

cudaError_t error_with_detail(cudaError_t error, std::string detail) {
  host_thread.detail = std::move(detail);
  return error;
}

const std::string& error_detail() {
  return host_thread.detail;
}

cudaError_t refuse(cudaError_t error, const std::string& detail) {
  return api_call([&](Runtime&) { return error_with_detail(error, detail); });
}

cudaError_t configure(const Configuration& configuration) {
  const std::lock_guard lock(creation_mutex);
  if (the_runtime) return remember(cudaErrorSetOnActiveProcess);
  if (configuration.devices < 1 || configuration.cores < 0 ||
      configuration.shared_memory_per_block > kMaxDynamicShared) {
    return remember(cudaErrorInvalidValue);
  }
  pending_configuration = configuration;
  return cudaSuccess;
}

cudaError_t guard_memory() {
  const std::lock_guard lock(creation_mutex);
  if (the_runtime) return remember(cudaErrorSetOnActiveProcess);
  pending_guards = true;
  return cudaSuccess;
}

}  // namespace hostcuda

using namespace hostcuda;

cudaError_t cudaGetLastError() {
  return std::exchange(host_thread.last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  return host_thread.last_error;
}

namespace {

struct ErrorText {
  cudaError_t error;
  const char* name;
  const char* text;
};

constexpr ErrorText kErrorTexts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorPeerAccessUnsupported, "cudaErrorPeerAccessUnsupported",
     "peer access is not supported between these two devices"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorPeerAccessAlreadyEnabled, "cudaErrorPeerAccessAlreadyEnabled", "peer access is already enabled"},
    {cudaErrorPeerAccessNotEnabled, "cudaErrorPeerAccessNotEnabled", "peer access has not been enabled"},
    {cudaErrorSetOnActiveProcess, "cudaErrorSetOnActiveProcess", "cannot set while device is active in this process"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

}  // namespace

const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorText& known : kErrorTexts) {
    if (known.error == error) return known.name;
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorText& known : kErrorTexts) {
    if (known.error == error) return known.text;
  }
  return "unrecognized error code";
}
