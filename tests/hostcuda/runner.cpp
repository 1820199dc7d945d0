#include "runner.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

void busy_for_microseconds(int microseconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(microseconds);
  while (std::chrono::steady_clock::now() < end) {
  }
}

void shuffle_streams(std::uint64_t seed) {
  CHECK_CUDA(hostcuda::set_schedule({.seed = seed, .shuffle_streams = true}));
}

int main(int count, char** arguments) {
  if (count == 2 && std::strcmp(arguments[1], "--list") == 0) {
    for (const TestCase& test : test_cases()) std::puts(test.name);
    return 0;
  }
  for (const TestCase& test : test_cases()) {
    if (count != 2 || std::strcmp(arguments[1], test.name) != 0) continue;
    try {
      if (const char* seed = std::getenv("SHUFFLED_STREAMS_SEED")) shuffle_streams(std::stoull(seed));
      test.run();
      return 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
  }
  std::fprintf(stderr, "usage: hostcuda_tests --list | hostcuda_tests NAME\n");
  return 2;
}
