// Device and pinned host memory: where it comes from, and which pointer belongs to whom.
#include "runtime.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace hostcuda {

namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20;
constexpr std::size_t kSmallAlignment = 256;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// From 2 MiB on, memory is mapped on its own, in large pages where the system has them.
void* take_memory(std::size_t bytes) {
  if (bytes < kLargePage) return std::aligned_alloc(kSmallAlignment, round_up(bytes, kSmallAlignment));
  const std::size_t size = round_up(bytes, kLargePage);
  void* mapped =
      mmap(nullptr, size + kLargePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped);
  const std::uintptr_t aligned = round_up(begin, kLargePage);
  if (aligned != begin) munmap(mapped, aligned - begin);
  munmap(reinterpret_cast<void*>(aligned + size), begin + kLargePage - aligned);
  void* memory = reinterpret_cast<void*>(aligned);
  madvise(memory, size, MADV_HUGEPAGE);
  return memory;
}

void return_memory(void* memory, std::size_t bytes) {
  if (bytes < kLargePage) {
    std::free(memory);
  } else {
    munmap(memory, round_up(bytes, kLargePage));
  }
}

}  // namespace

// The allocation that contains the pointer, or end().
std::map<std::uintptr_t, Allocation>::iterator Runtime::find_allocation(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return allocations.end();
  const auto candidate = std::prev(after);
  return address - candidate->first < candidate->second.bytes ? candidate : allocations.end();
}

}  // namespace hostcuda

using namespace hostcuda;

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return api_call([&](Runtime& runtime) {
    if (!pointer) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    const std::lock_guard lock(runtime.mutex);
    Device& device = runtime.device(current_device());
    const std::size_t free_bytes = device.memory_limit - device.memory_used;
    const std::size_t charged = bytes <= free_bytes ? round_up(bytes, kSmallAlignment) : bytes;
    void* memory = charged <= free_bytes ? take_memory(bytes) : nullptr;
    if (!memory) {
      return error_with_detail(cudaErrorMemoryAllocation, "device " + std::to_string(device.id) + ": " +
                                                              std::to_string(bytes) + " bytes asked for, " +
                                                              std::to_string(free_bytes) + " of " +
                                                              std::to_string(device.memory_limit) + " bytes are free");
    }
    if (runtime.configuration.fill_new_memory) std::memset(memory, 0xff, bytes);
    runtime.allocations[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, charged, device.id, cudaMemoryTypeDevice};
    if (MemoryObserver* observer = runtime.configuration.memory_observer) observer->allocated(memory, bytes);
    device.memory_used += charged;
    *pointer = memory;
    return cudaSuccess;
  });
}

// As in CUDA, waits for everything that may still use the memory.
cudaError_t cudaFree(void* pointer) {
  return api_call([&](Runtime& runtime) {
    std::unique_lock lock(runtime.mutex);
    if (!pointer) return cudaSuccess;
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    const auto found = runtime.allocations.find(address);
    if (found == runtime.allocations.end() || found->second.type != cudaMemoryTypeDevice) {
      return cudaErrorInvalidValue;
    }
    const Allocation allocation = found->second;
    runtime.allocations.erase(found);
    Device& device = runtime.device(allocation.device);
    runtime.wait_for(lock, device);
    if (MemoryObserver* observer = runtime.configuration.memory_observer) observer->freed(pointer);
    device.memory_used -= allocation.charged;
    return_memory(pointer, allocation.bytes);
    return runtime.report(lock, device);
  });
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned flags) {
  return api_call([&](Runtime& runtime) {
    if (!pointer || (flags & ~(cudaHostAllocPortable | cudaHostAllocMapped)) != 0) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    void* memory = take_memory(bytes);
    if (!memory) return cudaErrorMemoryAllocation;
    const std::lock_guard lock(runtime.mutex);
    runtime.allocations[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, 0, current_device(), cudaMemoryTypeHost};
    *pointer = memory;
    return cudaSuccess;
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return api_call([&](Runtime& runtime) {
    if (!pointer) return cudaSuccess;
    std::unique_lock lock(runtime.mutex);
    const auto found = runtime.allocations.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == runtime.allocations.end() || found->second.type != cudaMemoryTypeHost) {
      return cudaErrorInvalidValue;
    }
    const std::size_t bytes = found->second.bytes;
    runtime.allocations.erase(found);
    // CUDA does not promise to wait, so who still reads the memory in a shuffled order finds NaNs.
    if (runtime.schedule.shuffle_streams) std::memset(pointer, 0xff, bytes);
    for (const auto& device : runtime.devices) runtime.wait_for(lock, *device);
    return_memory(pointer, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
  return api_call([&](Runtime& runtime) {
    if (!free_bytes || !total_bytes) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    const Device& device = runtime.device(current_device());
    *free_bytes = device.memory_limit - device.memory_used;
    *total_bytes = device.memory_limit;
    return cudaSuccess;
  });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return api_call([&](Runtime& runtime) {
    if (!attributes) return cudaErrorInvalidValue;
    const std::lock_guard lock(runtime.mutex);
    const auto found = runtime.find_allocation(pointer);
    void* plain = const_cast<void*>(pointer);
    if (found == runtime.allocations.end()) {
      *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, plain};
    } else {
      const bool host = found->second.type == cudaMemoryTypeHost;
      *attributes = {found->second.type, found->second.device, plain, host ? plain : nullptr};
    }
    return cudaSuccess;
  });
}
