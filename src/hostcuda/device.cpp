// Devices, their properties, their memory limits, and which may reach which.
#include "runtime.h"

#include <algorithm>
#include <cstring>

namespace hostcuda {

namespace {

bool can_reach(Runtime& runtime, int device, int peer) {
  return device != peer && !runtime.device(device).peers_refused.contains(peer);
}

}  // namespace

cudaError_t set_memory_limit(int device, std::size_t bytes) {
  return api_call([&](Runtime& runtime) {
    if (!runtime.has_device(device)) return cudaErrorInvalidDevice;
    const std::lock_guard lock(runtime.mutex);
    if (bytes < runtime.device(device).memory_used) return cudaErrorInvalidValue;
    runtime.device(device).memory_limit = bytes;
    return cudaSuccess;
  });
}

cudaError_t set_peer_capable(int device, int peer, bool capable) {
  return api_call([&](Runtime& runtime) {
    if (!runtime.has_device(device) || !runtime.has_device(peer)) return cudaErrorInvalidDevice;
    const std::lock_guard lock(runtime.mutex);
    Device& from = runtime.device(device);
    if (capable) {
      from.peers_refused.erase(peer);
    } else {
      from.peers_refused.insert(peer);
      from.peers_enabled.erase(peer);
    }
    return cudaSuccess;
  });
}

int core_count() {
  return runtime().core_count;
}

}  // namespace hostcuda

using namespace hostcuda;

cudaError_t cudaGetDeviceCount(int* count) {
  return api_call([&](Runtime& runtime) {
    if (!count) return cudaErrorInvalidValue;
    *count = static_cast<int>(runtime.devices.size());
    return cudaSuccess;
  });
}

cudaError_t cudaSetDevice(int device) {
  return api_call([&](Runtime& runtime) {
    if (!runtime.has_device(device)) return cudaErrorInvalidDevice;
    set_current_device(device);
    return cudaSuccess;
  });
}

cudaError_t cudaGetDevice(int* device) {
  return api_call([&](Runtime&) {
    if (!device) return cudaErrorInvalidValue;
    *device = current_device();
    return cudaSuccess;
  });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return api_call([&](Runtime& runtime) {
    if (!properties) return cudaErrorInvalidValue;
    if (!runtime.has_device(device)) return cudaErrorInvalidDevice;
    const std::lock_guard lock(runtime.mutex);
    const std::size_t shared_bytes = runtime.configuration.shared_memory_per_block;
    *properties = {.name = {},
                   .totalGlobalMem = runtime.device(device).memory_limit,
                   .sharedMemPerBlock = shared_bytes,
                   .sharedMemPerBlockOptin = shared_bytes,
                   .warpSize = warpSize,
                   .maxThreadsPerBlock = kMaxThreads,
                   .maxThreadsDim = {1024, 1024, 64},
                   .maxGridSize = {0x7fffffff, 65535, 65535},
                   .major = 0,
                   .minor = 0,
                   .multiProcessorCount = runtime.core_count};
    const std::string& name = runtime.configuration.device_name;
    std::memcpy(properties->name, name.data(), std::min(name.size(), sizeof properties->name - 1));
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceCanAccessPeer(int* can_access, int device, int peer) {
  return api_call([&](Runtime& runtime) {
    if (!can_access) return cudaErrorInvalidValue;
    if (!runtime.has_device(device) || !runtime.has_device(peer)) return cudaErrorInvalidDevice;
    const std::lock_guard lock(runtime.mutex);
    *can_access = can_reach(runtime, device, peer);
    return cudaSuccess;
  });
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) {
  return api_call([&](Runtime& runtime) {
    if (flags != 0) return cudaErrorInvalidValue;
    if (!runtime.has_device(peer) || peer == current_device()) return cudaErrorInvalidDevice;
    const std::lock_guard lock(runtime.mutex);
    if (!can_reach(runtime, current_device(), peer)) return cudaErrorPeerAccessUnsupported;
    const bool is_new = runtime.device(current_device()).peers_enabled.insert(peer).second;
    return is_new ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled;
  });
}

cudaError_t cudaDeviceDisablePeerAccess(int peer) {
  return api_call([&](Runtime& runtime) {
    if (!runtime.has_device(peer)) return cudaErrorInvalidDevice;
    const std::lock_guard lock(runtime.mutex);
    const bool was_enabled = runtime.device(current_device()).peers_enabled.erase(peer) > 0;
    return was_enabled ? cudaSuccess : cudaErrorPeerAccessNotEnabled;
  });
}
