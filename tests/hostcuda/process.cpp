// Devices, configuration, error texts, and the ends of processes.
#include "runner.h"

#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>

TEST(devices_and_properties) {
  hostcuda::Configuration configuration;
  configuration.devices = 3;
  configuration.cores = 1;
  configuration.memory_per_device = 5 << 20;
  configuration.device_name = "three of a kind";
  CHECK_CUDA(hostcuda::configure(configuration));
  int count = 0, device = -1;
  CHECK_CUDA(cudaGetDeviceCount(&count));
  CHECK_EQUAL(count, 3);
  CHECK_CUDA(cudaSetDevice(2));
  std::thread([&] { cudaGetDevice(&device); }).join();  // each host thread has its own
  CHECK_EQUAL(device, 0);
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_EQUAL(device, 2);
  CHECK_ERROR(cudaSetDevice(3), cudaErrorInvalidDevice);
  CHECK_ERROR(cudaSetDevice(-1), cudaErrorInvalidDevice);

  cudaDeviceProp properties;
  CHECK_CUDA(cudaGetDeviceProperties(&properties, 2));
  CHECK_EQUAL(std::string(properties.name), "three of a kind");
  CHECK_EQUAL(properties.totalGlobalMem, 5u << 20);
  CHECK_EQUAL(properties.warpSize, 32);
  CHECK_EQUAL(properties.maxThreadsPerBlock, 1024);
  CHECK_EQUAL(properties.multiProcessorCount, 1);
  CHECK_ERROR(cudaGetDeviceProperties(&properties, 3), cudaErrorInvalidDevice);
  CHECK_ERROR(hostcuda::configure(configuration), cudaErrorSetOnActiveProcess);
}

TEST(impossible_device_numbers_are_refused) {
  hostcuda::Configuration configuration;
  configuration.devices = 0;
  CHECK_ERROR(hostcuda::configure(configuration), cudaErrorInvalidValue);
  configuration = {};
  configuration.cores = -1;
  CHECK_ERROR(hostcuda::configure(configuration), cudaErrorInvalidValue);
}

TEST(error_texts) {
  CHECK_EQUAL(std::string(cudaGetErrorName(cudaErrorMemoryAllocation)), "cudaErrorMemoryAllocation");
  CHECK_EQUAL(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)), "out of memory");
  CHECK_EQUAL(std::string(cudaGetErrorString(cudaSuccess)), "no error");
  CHECK_EQUAL(std::string(cudaGetErrorName(static_cast<cudaError_t>(12345))), "unrecognized error code");
}

TEST(a_forked_child_is_refused) {
  CHECK_CUDA(hostcuda::launch("nothing", 1, 1, 0, nullptr, [] {}));
  CHECK_CUDA(cudaDeviceSynchronize());
  const pid_t child = fork();
  if (child == 0) {
    void* memory = nullptr;
    const bool refused = cudaMalloc(&memory, 100) == cudaErrorInitializationError &&
                         cudaDeviceSynchronize() == cudaErrorInitializationError &&
                         hostcuda::launch("nothing", 1, 1, 0, nullptr, [] {}) == cudaErrorInitializationError;
    _exit(refused ? 0 : 1);
  }
  int status = -1;
  CHECK_EQUAL(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_CUDA(cudaDeviceSynchronize());
}

TEST(fork_before_the_first_use) {
  const pid_t child = fork();
  CHECK_CUDA(hostcuda::launch("nothing", 1, 1, 0, nullptr, [] {}));
  CHECK_CUDA(cudaDeviceSynchronize());
  if (child == 0) _exit(0);
  int status = -1;
  CHECK_EQUAL(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(exit_while_idle) {
  CHECK_CUDA(hostcuda::launch("nothing", 1, 1, 0, nullptr, [] {}));
  CHECK_CUDA(cudaDeviceSynchronize());
}

// An hour of work: the process must not wait for it.
TEST(exit_while_busy) {
  CHECK_CUDA(hostcuda::launch("busy", 36000000, 1, 0, nullptr, [] { busy_for_microseconds(100); }));
  busy_for_microseconds(1000);
}
