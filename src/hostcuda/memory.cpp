// Device and pinned host memory: where it comes from, what guards it, and which pointer belongs to whom.
#include "runtime.h"

#include "address_check.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace hostcuda {

namespace {

constexpr std::size_t kLargePage = std::size_t{2} << 20;
constexpr std::size_t kSmallAlignment = 256;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

// In large pages where the system has them.
void* map_memory(std::size_t size) {
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

// From 2 MiB on, memory is mapped on its own.
void* take_memory(SpareMappings& spare, std::size_t bytes) {
  if (bytes < kLargePage) return std::aligned_alloc(kSmallAlignment, round_up(bytes, kSmallAlignment));
  const std::size_t size = round_up(bytes, kLargePage);
  if (void* memory = spare.take(size)) return memory;
  if (void* memory = map_memory(size)) return memory;
  spare.unmap_oldest(0);
  return map_memory(size);
}

void return_memory(SpareMappings& spare, void* memory, std::size_t bytes) {
  if (bytes < kLargePage) {
    std::free(memory);
  } else {
    spare.keep(memory, round_up(bytes, kLargePage));
  }
}

// Guarded memory, from the left: a page that nobody may touch; what fills a page; a margin of NaNs; the allocation; a
// margin of NaNs up to its alignment, of 255 bytes at most; a page that nobody may touch. An access there faults. Who
// reads a margin gets NaNs, and what is written into one is found afterwards; AddressSanitizer reports both at once.
struct Guarded {
  explicit Guarded(std::size_t bytes)
      : page(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        aligned(round_up(bytes, kSmallAlignment)),
        usable(round_up(aligned + kSmallAlignment, page)) {}

  std::byte* mapping_of(void* memory) const { return static_cast<std::byte*>(memory) + aligned - usable - page; }

  std::size_t page, aligned, usable;
};

void* take_guarded_memory(std::size_t bytes) {
  const Guarded guarded(bytes);
  void* mapped =
      mmap(nullptr, guarded.usable + 2 * guarded.page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  std::byte* const begin = static_cast<std::byte*>(mapped) + guarded.page;
  if (mprotect(begin, guarded.usable, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapped, guarded.usable + 2 * guarded.page);
    return nullptr;
  }
  madvise(begin, guarded.usable, MADV_HUGEPAGE);
  std::byte* const memory = begin + guarded.usable - guarded.aligned;
  std::memset(memory - kSmallAlignment, 0xff, kSmallAlignment);
  std::memset(memory + bytes, 0xff, guarded.aligned - bytes);
  address_check::forbid(memory - kSmallAlignment, kSmallAlignment);
  address_check::forbid(memory + bytes, guarded.aligned - bytes);
  return memory;
}

void return_guarded_memory(void* memory, std::size_t bytes) {
  const Guarded guarded(bytes);
  std::byte* const mapping = guarded.mapping_of(memory);
  address_check::allow(mapping, guarded.usable + 2 * guarded.page);
  munmap(mapping, guarded.usable + 2 * guarded.page);
}

// Whether a margin is as it was; afterwards it is.
bool restore(std::byte* begin, std::size_t bytes) {
  const bool intact = std::all_of(begin, begin + bytes, [](std::byte value) { return value == std::byte{0xff}; });
  if (!intact) std::memset(begin, 0xff, bytes);
  return intact;
}

cudaError_t chosen_allocation_fails() {
  return error_with_detail(cudaErrorMemoryAllocation, "the allocation was chosen to fail");
}

std::string text_of(const Allocation& allocation) {
  return "an allocation of " + std::to_string(allocation.bytes) + " bytes of " +
         (allocation.type == cudaMemoryTypeHost ? "the host" : "device " + std::to_string(allocation.device));
}

void* take(Runtime& runtime, std::size_t bytes) {
  return runtime.memory_guarded ? take_guarded_memory(bytes) : take_memory(runtime.spare_mappings, bytes);
}

void give_back(Runtime& runtime, void* memory, std::size_t bytes) {
  runtime.memory_guarded ? return_guarded_memory(memory, bytes) : return_memory(runtime.spare_mappings, memory, bytes);
}

}  // namespace

void* SpareMappings::take(std::size_t size) {
  const auto newest =
      std::find_if(mappings_.rbegin(), mappings_.rend(), [&](const auto& mapping) { return mapping.size == size; });
  if (newest == mappings_.rend()) return nullptr;
  void* const memory = newest->memory;
  bytes_ -= size;
  mappings_.erase(std::next(newest).base());
  return memory;
}

void SpareMappings::keep(void* memory, std::size_t size) {
  if (size > kMostBytes || madvise(memory, size, MADV_FREE) != 0) {
    munmap(memory, size);
    return;
  }
  mappings_.push_back({memory, size});
  bytes_ += size;
  unmap_oldest(kMostBytes);
}

void SpareMappings::unmap_oldest(std::size_t bytes_left) {
  while (bytes_ > bytes_left) {
    const auto [memory, size] = mappings_.front();
    mappings_.erase(mappings_.begin());
    bytes_ -= size;
    munmap(memory, size);
  }
}

// The allocation that contains the pointer, or end().
std::map<std::uintptr_t, Allocation>::iterator Runtime::find_allocation(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return allocations.end();
  const auto candidate = std::prev(after);
  return address - candidate->first < candidate->second.bytes ? candidate : allocations.end();
}

std::string Runtime::place_beside_allocations(std::uintptr_t address) const {
  const auto after = allocations.upper_bound(address);
  const std::size_t before_next = after == allocations.end() ? SIZE_MAX : after->first - address;
  std::size_t behind_last = SIZE_MAX;
  if (after != allocations.begin()) {
    const auto last = std::prev(after);
    behind_last = address - last->first - last->second.bytes;
    if (behind_last <= before_next) {
      return std::to_string(behind_last) + " bytes behind the end of " + text_of(last->second);
    }
  }
  if (after == allocations.end()) return "in no allocation";
  return std::to_string(before_next) + " bytes before the beginning of " + text_of(after->second);
}

std::optional<Failure> Runtime::check_guards(const Device& device, const std::string& suspect) {
  if (address_check::kEnabled) return std::nullopt;  // who touches them has been reported
  std::optional<Failure> failure;
  for (const auto& [address, allocation] : allocations) {
    if (allocation.type != cudaMemoryTypeDevice || allocation.device != device.id) continue;
    auto* const memory = reinterpret_cast<std::byte*>(address);
    const std::size_t behind = Guarded(allocation.bytes).aligned - allocation.bytes;
    const bool before_intact = restore(memory - kSmallAlignment, kSmallAlignment);
    const bool behind_intact = restore(memory + allocation.bytes, behind);
    if (before_intact && behind_intact) continue;
    failure = {cudaErrorLaunchFailure, "kernel " + suspect + ", or what ran beside it, wrote right " +
                                           (before_intact ? "behind the end" : "before the beginning") + " of " +
                                           text_of(allocation)};
  }
  return failure;
}

bool Runtime::fails(Call call) {
  std::uint64_t& left = calls_to_failure[static_cast<std::size_t>(call)];
  return left > 0 && --left == 0;
}

cudaError_t fail_call(Call call, std::uint64_t number) {
  return api_call([&](Runtime& runtime) {
    const std::lock_guard lock(runtime.mutex);
    runtime.calls_to_failure[static_cast<std::size_t>(call)] = number;
    return cudaSuccess;
  });
}

}  // namespace hostcuda

using namespace hostcuda;

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  return api_call([&](Runtime& runtime) {
    if (!pointer) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    const std::lock_guard lock(runtime.mutex);
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaMalloc")) return error;
    if (runtime.fails(Call::allocation)) return chosen_allocation_fails();
    Device& device = runtime.device(current_device());
    const std::size_t free_bytes = device.memory_limit - device.memory_used;
    const std::size_t charged = bytes <= free_bytes ? round_up(bytes, kSmallAlignment) : bytes;
    void* memory = charged <= free_bytes ? take(runtime, bytes) : nullptr;
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
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaFree")) return error;
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
    give_back(runtime, pointer, allocation.bytes);
    return runtime.report(lock, device);
  });
}

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned flags) {
  return api_call([&](Runtime& runtime) {
    if (!pointer || (flags & ~(cudaHostAllocPortable | cudaHostAllocMapped)) != 0) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    const std::lock_guard lock(runtime.mutex);
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaHostAlloc")) return error;
    if (runtime.fails(Call::allocation)) return chosen_allocation_fails();
    void* memory = take(runtime, bytes);
    if (!memory) return cudaErrorMemoryAllocation;
    runtime.allocations[reinterpret_cast<std::uintptr_t>(memory)] = {bytes, 0, current_device(), cudaMemoryTypeHost};
    *pointer = memory;
    return cudaSuccess;
  });
}

cudaError_t cudaFreeHost(void* pointer) {
  return api_call([&](Runtime& runtime) {
    if (!pointer) return cudaSuccess;
    std::unique_lock lock(runtime.mutex);
    if (const cudaError_t error = runtime.refuse_while_capturing("cudaFreeHost")) return error;
    const auto found = runtime.allocations.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == runtime.allocations.end() || found->second.type != cudaMemoryTypeHost) {
      return cudaErrorInvalidValue;
    }
    const std::size_t bytes = found->second.bytes;
    runtime.allocations.erase(found);
    // CUDA does not promise to wait, so who still reads the memory in a shuffled order finds NaNs.
    if (runtime.schedule.shuffle_streams) std::memset(pointer, 0xff, bytes);
    for (const auto& device : runtime.devices) runtime.wait_for(lock, *device);
    give_back(runtime, pointer, bytes);
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
