// Device memory, its limits, peer access, and copies of every shape.
#include "checks.h"
#include "runner.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>

namespace {

std::vector<unsigned char> some_bytes(std::size_t count) {
  std::vector<unsigned char> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<unsigned char>(i * 31 + i / 251);
  return bytes;
}

bool is_mapped(void* page) {
  unsigned char resident = 0;
  return mincore(page, 1, &resident) == 0;
}

std::size_t mapped_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::size_t kilobytes = 0;
    if (word == "VmSize:" && status >> kilobytes) return kilobytes << 10;
  }
  return 0;
}

}  // namespace

TEST(memory_limits) {
  hostcuda::Configuration configuration;
  configuration.memory_per_device = 64 << 20;
  CHECK_CUDA(hostcuda::configure(configuration));
  std::size_t free_bytes = 0, total_bytes = 0;
  void *large = nullptr, *rest = nullptr, *refused = nullptr;
  CHECK_CUDA(cudaMalloc(&large, 40 << 20));
  CHECK_ERROR(cudaMalloc(&refused, (24 << 20) + 1), cudaErrorMemoryAllocation);
  CHECK(refused == nullptr);
  check_detail_has("device 0: 25165825 bytes asked for, 25165824 of 67108864 bytes are free");
  CHECK_ERROR(cudaGetLastError(), cudaErrorMemoryAllocation);
  CHECK_CUDA(cudaMalloc(&rest, 24 << 20));
  CHECK_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  CHECK_EQUAL(free_bytes, 0u);
  CHECK_EQUAL(total_bytes, 64u << 20);
  CHECK_ERROR(cudaMalloc(&refused, 1), cudaErrorMemoryAllocation);
  CHECK_ERROR(cudaMalloc(&refused, ~std::size_t{0}), cudaErrorMemoryAllocation);

  CHECK_CUDA(cudaSetDevice(1));  // has its own
  CHECK_CUDA(cudaMalloc(&refused, 64 << 20));
  CHECK_CUDA(cudaFree(refused));
  CHECK_CUDA(cudaSetDevice(0));

  CHECK_CUDA(cudaFree(large));
  CHECK_CUDA(cudaFree(rest));
  CHECK_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  CHECK_EQUAL(free_bytes, total_bytes);

  CHECK_CUDA(hostcuda::set_memory_limit(0, 1 << 20));
  CHECK_ERROR(cudaMalloc(&refused, 2 << 20), cudaErrorMemoryAllocation);
  CHECK_CUDA(cudaMalloc(&rest, 1 << 20));
  CHECK_ERROR(hostcuda::set_memory_limit(0, 1 << 19), cudaErrorInvalidValue);
  CHECK_ERROR(hostcuda::set_memory_limit(7, 1 << 20), cudaErrorInvalidDevice);
  CHECK_CUDA(cudaFree(rest));
}

TEST(allocations) {
  char *small = nullptr, *large = nullptr, *pinned = nullptr, *nothing = nullptr;
  CHECK_CUDA(cudaMalloc(&small, 100));
  CHECK_CUDA(cudaMalloc(&large, 3 << 20));
  CHECK_CUDA(cudaHostAlloc(&pinned, 100, cudaHostAllocDefault));
  CHECK_CUDA(cudaMalloc(&nothing, 0));
  CHECK(nothing == nullptr);
  CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(small) % 256, 0u);
  CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(large) % (2 << 20), 0u);

  cudaPointerAttributes attributes;
  CHECK_CUDA(cudaPointerGetAttributes(&attributes, large + (3 << 20) - 1));
  CHECK(attributes.type == cudaMemoryTypeDevice && attributes.device == 0);
  CHECK_CUDA(cudaPointerGetAttributes(&attributes, pinned));
  CHECK(attributes.type == cudaMemoryTypeHost && attributes.hostPointer == pinned);
  CHECK_CUDA(cudaPointerGetAttributes(&attributes, &attributes));
  CHECK(attributes.type == cudaMemoryTypeUnregistered);

  int foreign = 0;
  CHECK_ERROR(cudaFree(&foreign), cudaErrorInvalidValue);
  CHECK_ERROR(cudaFree(small + 1), cudaErrorInvalidValue);
  CHECK_ERROR(cudaFree(pinned), cudaErrorInvalidValue);
  CHECK_ERROR(cudaFreeHost(small), cudaErrorInvalidValue);
  CHECK_CUDA(cudaFree(nullptr));
  CHECK_CUDA(cudaFree(small));
  CHECK_ERROR(cudaFree(small), cudaErrorInvalidValue);
  CHECK_CUDA(cudaFree(large));
  CHECK_CUDA(cudaFreeHost(pinned));
}

TEST(guarded_memory_ends_where_nobody_may_touch_it) {
  CHECK_CUDA(hostcuda::guard_memory());
  const DeviceArray<int> words(256), odd_words(257), large(1 << 20);
  CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(odd_words.data) % 256, 0u);
  const auto touch = [](const char* name, volatile int* data, std::ptrdiff_t at, bool writes) {
    CHECK_CUDA(hostcuda::launch(name, 1, 32, 0, nullptr, [=] {
      if (threadIdx.x != 7) return;
      const int found = data[at];
      if (writes) data[at] = found + 1;
    }));
    return cudaDeviceSynchronize();
  };
  CHECK_CUDA(touch("inside", words.data, 255, true));
  CHECK_ERROR(touch("reader", words.data, 256, false), cudaErrorLaunchFailure);
  check_detail_has(
      "kernel reader, block (0, 0, 0), thread (7, 0, 0) touches memory 0 bytes behind the end of an "
      "allocation of 1024 bytes of device 0");
  CHECK_ERROR(touch("writer", large.data, (1 << 20) + 5, true), cudaErrorLaunchFailure);
  check_detail_has("kernel writer");
  check_detail_has("20 bytes behind the end of an allocation of 4194304 bytes of device 0");
  CHECK_ERROR(touch("null", nullptr, 0, false), cudaErrorLaunchFailure);

  // Within the alignment nothing faults: what is read is NaN, what is written is noticed once.
  CHECK_CUDA(touch("careless", odd_words.data, 257, false));
  CHECK_ERROR(touch("overrun", odd_words.data, 257, true), cudaErrorLaunchFailure);
  check_detail_has("kernel overrun, or what ran beside it, wrote right behind the end of an allocation of 1028 bytes");
  CHECK_CUDA(touch("inside", odd_words.data, 256, true));
  CHECK_ERROR(touch("underrun", words.data, -1, true), cudaErrorLaunchFailure);
  check_detail_has("kernel underrun, or what ran beside it, wrote right before the beginning of an allocation of 1024");

  // The device is as new, and its arithmetic too.
  const DeviceArray<float> result(1);
  CHECK_CUDA(hostcuda::launch("denormal", 64, 1, 0, nullptr, [data = result.data] {
    volatile float smallest = 1e-38f;
    if (smallest * 0.5f != 0.0f) *data = 1.0f;
  }));
  CHECK_EQUAL(result.to_host()[0], 0.0f);
}

TEST(chosen_calls_fail) {
  const DeviceArray<int> array(10);
  void *first = nullptr, *second = nullptr;
  CHECK_CUDA(hostcuda::fail_call(hostcuda::Call::allocation, 2));
  CHECK_CUDA(cudaMalloc(&first, 8));
  CHECK_ERROR(cudaMalloc(&second, 8), cudaErrorMemoryAllocation);
  check_detail_has("the allocation was chosen to fail");
  CHECK(second == nullptr);
  CHECK_CUDA(cudaMalloc(&second, 8));
  CHECK_CUDA(cudaFree(first));
  CHECK_CUDA(cudaFree(second));
  CHECK_CUDA(hostcuda::fail_call(hostcuda::Call::allocation, 1));
  CHECK_ERROR(cudaHostAlloc(&first, 8, cudaHostAllocDefault), cudaErrorMemoryAllocation);
  CHECK_CUDA(cudaHostAlloc(&first, 8, cudaHostAllocDefault));

  CHECK_CUDA(hostcuda::fail_call(hostcuda::Call::copy, 1));
  CHECK_CUDA(cudaMemcpyAsync(first, array.data, 8, cudaMemcpyDeviceToHost));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  check_detail_has("the copy was chosen to fail");
  CHECK_CUDA(hostcuda::fail_call(hostcuda::Call::copy, 1));
  CHECK_CUDA(hostcuda::fail_call(hostcuda::Call::copy, 0));
  CHECK_CUDA(cudaMemcpyAsync(first, array.data, 8, cudaMemcpyDeviceToHost));
  CHECK_CUDA(cudaDeviceSynchronize());
  CHECK_CUDA(cudaFreeHost(first));
}

TEST(free_waits_for_the_device) {
  int* value = nullptr;
  CHECK_CUDA(cudaMalloc(&value, 4 << 20));
  CHECK_CUDA(hostcuda::launch("late", 1, 1, 0, nullptr, [value] {
    busy_for_microseconds(20000);
    value[1000000] = 1;
  }));
  CHECK_CUDA(cudaFree(value));
  CHECK_CUDA(cudaDeviceSynchronize());
}

TEST(copies_and_fills) {
  for (std::size_t count : {std::size_t{1}, std::size_t{1000}, (std::size_t{1} << 20) + 17}) {
    const std::vector<unsigned char> bytes = some_bytes(count);
    const DeviceArray<unsigned char> first(count), second(count);
    CHECK_CUDA(cudaMemcpyAsync(first.data, bytes.data(), count, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpyAsync(second.data, first.data, count, cudaMemcpyDeviceToDevice));
    CHECK(second.to_host() == bytes);
    CHECK_CUDA(cudaMemsetAsync(second.data, 0x5a, count));
    CHECK(second.to_host() == std::vector<unsigned char>(count, 0x5a));
  }
}

TEST(copies_check_their_range_and_direction) {
  const DeviceArray<char> device(1000), other(1000);
  std::vector<char> host(2000);
  const cudaMemcpyKind to_device = cudaMemcpyHostToDevice, to_host = cudaMemcpyDeviceToHost;
  CHECK_ERROR(cudaMemcpy(device.data, host.data(), 1001, to_device), cudaErrorInvalidValue);
  check_detail_has("past the end of the destination's allocation");
  CHECK_ERROR(cudaMemcpy(host.data(), device.data + 1, 1000, to_host), cudaErrorInvalidValue);
  CHECK_ERROR(cudaMemcpyAsync(other.data + 500, device.data, 501, cudaMemcpyDeviceToDevice), cudaErrorInvalidValue);
  CHECK_ERROR(cudaMemcpy2DAsync(device.data, 100, host.data(), 100, 100, 11, to_device), cudaErrorInvalidValue);
  CHECK_CUDA(cudaMemcpy2DAsync(device.data + 1, 100, host.data(), 100, 99, 10, to_device));
  CHECK_ERROR(cudaMemcpy2DAsync(device.data, 99, host.data(), 100, 100, 2, to_device), cudaErrorInvalidPitchValue);
  CHECK_ERROR(cudaMemcpy(host.data(), device.data, 10, to_device), cudaErrorInvalidValue);
  CHECK_ERROR(cudaMemcpy(host.data(), host.data() + 100, 10, to_host), cudaErrorInvalidValue);
  CHECK_ERROR(cudaMemcpy(nullptr, device.data, 10, to_host), cudaErrorInvalidValue);
  const auto no_kind = static_cast<cudaMemcpyKind>(7);  // of three bits, which the enumeration may have
  CHECK_ERROR(cudaMemcpy(host.data(), device.data, 10, no_kind), cudaErrorInvalidMemcpyDirection);
  CHECK_ERROR(cudaMemsetAsync(device.data, 0, 1001), cudaErrorInvalidValue);
  CHECK_CUDA(cudaMemcpy(host.data(), host.data() + 100, 10, cudaMemcpyDefault));
  CHECK_CUDA(cudaMemcpy(nullptr, device.data, 0, to_host));
}

TEST(copies_of_two_dimensions) {
  constexpr std::size_t width = 37, height = 11000, from_pitch = 50, to_pitch = 41;
  const std::vector<unsigned char> from = some_bytes(from_pitch * height);
  const DeviceArray<unsigned char> to(to_pitch * height);
  CHECK_CUDA(cudaMemcpy2DAsync(to.data, to_pitch, from.data(), from_pitch, width, height, cudaMemcpyHostToDevice));
  const std::vector<unsigned char> result = to.to_host();
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < to_pitch; ++x) {
      CHECK_EQUAL(int{result[y * to_pitch + x]}, x < width ? int{from[y * from_pitch + x]} : 0);
    }
  }
}

TEST(copies_of_three_dimensions_between_devices) {
  constexpr std::size_t from_pitch = 64, from_rows = 9, to_pitch = 48, to_rows = 7, slices = 5;
  constexpr cudaExtent extent = make_cudaExtent(20, 4, 3);
  constexpr cudaPos from_pos = make_cudaPos(8, 2, 1), to_pos = make_cudaPos(3, 1, 2);
  const std::vector<unsigned char> bytes = some_bytes(from_pitch * from_rows * slices);
  const DeviceArray<unsigned char> from(bytes.size());
  CHECK_CUDA(cudaMemcpy(from.data, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaSetDevice(1));
  const DeviceArray<unsigned char> to(to_pitch * to_rows * slices);

  cudaMemcpy3DPeerParms parameters{};
  parameters.srcPtr = make_cudaPitchedPtr(from.data, from_pitch, from_pitch, from_rows);
  parameters.srcPos = from_pos;
  parameters.srcDevice = 0;
  parameters.dstPtr = make_cudaPitchedPtr(to.data, to_pitch, to_pitch, to_rows);
  parameters.dstPos = to_pos;
  parameters.dstDevice = 1;
  parameters.extent = extent;
  CHECK_CUDA(cudaMemcpy3DPeerAsync(&parameters));
  const std::vector<unsigned char> result = to.to_host();
  for (std::size_t z = 0; z < slices; ++z) {
    for (std::size_t y = 0; y < to_rows; ++y) {
      for (std::size_t x = 0; x < to_pitch; ++x) {
        const std::size_t dx = x - to_pos.x, dy = y - to_pos.y, dz = z - to_pos.z;  // huge when outside
        const bool inside = dx < extent.width && dy < extent.height && dz < extent.depth;
        const std::size_t source = ((from_pos.z + dz) * from_rows + from_pos.y + dy) * from_pitch + from_pos.x + dx;
        CHECK_EQUAL(int{result[(z * to_rows + y) * to_pitch + x]}, inside ? int{bytes[source]} : 0);
      }
    }
  }
  parameters.extent.depth = 4;
  CHECK_ERROR(cudaMemcpy3DPeerAsync(&parameters), cudaErrorInvalidValue);
  parameters.dstDevice = 5;
  CHECK_ERROR(cudaMemcpy3DPeerAsync(&parameters), cudaErrorInvalidDevice);
}

TEST(peer_access) {
  int can = 0;
  CHECK_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
  CHECK_EQUAL(can, 1);
  CHECK_CUDA(cudaDeviceCanAccessPeer(&can, 0, 0));
  CHECK_EQUAL(can, 0);
  CHECK_ERROR(cudaDeviceDisablePeerAccess(1), cudaErrorPeerAccessNotEnabled);
  CHECK_CUDA(cudaDeviceEnablePeerAccess(1, 0));
  CHECK_ERROR(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessAlreadyEnabled);
  CHECK_CUDA(cudaDeviceDisablePeerAccess(1));
  CHECK_ERROR(cudaDeviceEnablePeerAccess(1, 1), cudaErrorInvalidValue);
  CHECK_ERROR(cudaDeviceEnablePeerAccess(0, 0), cudaErrorInvalidDevice);
  CHECK_ERROR(cudaDeviceEnablePeerAccess(2, 0), cudaErrorInvalidDevice);

  CHECK_CUDA(hostcuda::set_peer_capable(0, 1, false));
  CHECK_CUDA(cudaDeviceCanAccessPeer(&can, 0, 1));
  CHECK_EQUAL(can, 0);
  CHECK_CUDA(cudaDeviceCanAccessPeer(&can, 1, 0));
  CHECK_EQUAL(can, 1);
  CHECK_ERROR(cudaDeviceEnablePeerAccess(1, 0), cudaErrorPeerAccessUnsupported);

  // Copies between devices need no peer access.
  const DeviceArray<int> here(1);
  const int value = 17;
  CHECK_CUDA(cudaMemcpy(here.data, &value, sizeof value, cudaMemcpyHostToDevice));
  CHECK_CUDA(cudaSetDevice(1));
  const DeviceArray<int> there(1);
  CHECK_CUDA(cudaMemcpyPeerAsync(there.data, 1, here.data, 0, sizeof value));
  CHECK_EQUAL(there.to_host()[0], 17);
  CHECK_ERROR(cudaMemcpyPeerAsync(there.data, 2, here.data, 0, sizeof value), cudaErrorInvalidDevice);
}

TEST(freed_memory_waits_for_the_next_of_its_size) {
  void *first = nullptr, *other = nullptr, *again = nullptr;
  CHECK_CUDA(cudaMalloc(&first, (8 << 20) - 5));
  std::memset(first, 1, 8 << 20);
  CHECK_CUDA(cudaFree(first));
  CHECK_CUDA(cudaMalloc(&other, 6 << 20));
  CHECK(other != first);
  CHECK_CUDA(cudaMalloc(&again, 8 << 20));
  CHECK(again == first);
  std::memset(again, 2, 8 << 20);
  CHECK_CUDA(cudaFree(again));
  CHECK_CUDA(cudaHostAlloc(&again, 8 << 20, cudaHostAllocDefault));
  CHECK(again == first);
}

TEST(of_freed_memory_the_latest_gibibyte_waits) {
  std::array<void*, 5> memories{};
  for (void*& memory : memories) CHECK_CUDA(cudaMalloc(&memory, 300 << 20));
  for (void* memory : memories) CHECK_CUDA(cudaFree(memory));
  for (int i = 0; i < 5; ++i) CHECK_EQUAL(is_mapped(memories[i]), i >= 2);
  void* large = nullptr;
  CHECK_CUDA(cudaMalloc(&large, (std::size_t{1} << 30) + 1));
  CHECK_CUDA(cudaFree(large));
  CHECK(!is_mapped(large));
}

TEST(freed_memory_makes_room_where_the_system_gives_none) {
  void *freed = nullptr, *other = nullptr;
  CHECK_CUDA(cudaMalloc(&freed, 512 << 20));
  CHECK_CUDA(cudaFree(freed));
  const rlimit limit{mapped_bytes() + (64 << 20), RLIM_INFINITY};
  CHECK_EQUAL(setrlimit(RLIMIT_AS, &limit), 0);
  CHECK_CUDA(cudaMalloc(&other, 256 << 20));
  CHECK_CUDA(cudaFree(other));
}
