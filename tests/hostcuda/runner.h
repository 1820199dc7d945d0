// A test case is a function of its own process: hostcuda_tests --list, hostcuda_tests NAME. Its streams are shuffled
// where the environment variable SHUFFLED_STREAMS_SEED has a seed.
#pragma once

#include <hostcuda.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct TestCase {
  const char* name;
  void (*run)();
};

inline std::vector<TestCase>& test_cases() {
  static std::vector<TestCase> cases;
  return cases;
}

#define TEST(name)                                                                    \
  static void name();                                                                 \
  static const bool name##_is_listed = (test_cases().push_back({#name, name}), true); \
  static void name()

template <class Left, class Right>
void check_equal(const Left& left, const Right& right, const char* text, const char* file, int line) {
  if (left == right) return;
  std::ostringstream message;
  message << file << ":" << line << ": " << text << ": " << left << " and " << right;
  throw std::runtime_error(message.str());
}

inline void check(bool holds, const char* text, const char* file, int line) {
  if (!holds) throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": not so: " + text);
}

// The error comes out by name, with its detail.
inline void check_error(cudaError_t error, cudaError_t expected, const char* text, const char* file, int line) {
  if (error == expected) return;
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + text + " gave " +
                           cudaGetErrorName(error) + ", not " + cudaGetErrorName(expected) + "; detail: \"" +
                           hostcuda::error_detail() + "\"");
}

#define CHECK(condition) check(condition, #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(left, right) check_equal(left, right, #left " == " #right, __FILE__, __LINE__)
#define CHECK_ERROR(call, error) check_error(call, error, #call, __FILE__, __LINE__)
#define CHECK_CUDA(call) CHECK_ERROR(call, cudaSuccess)

inline void check_detail_has(const std::string& part) {
  if (hostcuda::error_detail().find(part) == std::string::npos) {
    throw std::runtime_error("the detail \"" + hostcuda::error_detail() + "\" lacks \"" + part + "\"");
  }
}

// `count` values in device memory, freed at the end of the scope.
template <class T>
struct DeviceArray {
  explicit DeviceArray(std::size_t count) : count(count) {
    CHECK_CUDA(cudaMalloc(&data, count * sizeof(T)));
    CHECK_CUDA(cudaMemsetAsync(data, 0, count * sizeof(T)));
    CHECK_CUDA(cudaStreamSynchronize(nullptr));
  }
  ~DeviceArray() { cudaFree(data); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  std::vector<T> to_host() const {
    std::vector<T> values(count);
    CHECK_CUDA(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

  T* data = nullptr;
  std::size_t count;
};

struct TestStream {
  TestStream() { CHECK_CUDA(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking)); }
  ~TestStream() { cudaStreamDestroy(handle); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;
  operator cudaStream_t() const { return handle; }
  cudaStream_t handle = nullptr;
};

struct TestEvent {
  explicit TestEvent(unsigned flags = cudaEventDefault) { CHECK_CUDA(cudaEventCreateWithFlags(&handle, flags)); }
  ~TestEvent() { cudaEventDestroy(handle); }
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  operator cudaEvent_t() const { return handle; }
  cudaEvent_t handle = nullptr;
};

void shuffle_streams(std::uint64_t seed);

// Work for a core that takes about this long, whatever the core's speed does to it.
void busy_for_microseconds(int microseconds);
