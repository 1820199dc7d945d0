// Runs a step: STEP IMAGES HEIGHT WIDTH CHANNELS FILTERS reads x, then w, and writes y, all as bare floats.
//
//   nvcc -std=c++17 -O3 -ftz=true -DSTEP='"4_registers.cu"' run.cu -o step
//
// It prints the time of the tenth call on a GPU, and on CPU cores the time that CUDA's rules take there.
#include STEP

#include <cstdio>
#include <cstdlib>
#include <vector>

#if !defined(__CUDACC__)
#include "hostcuda.h"
#endif

static void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::exit(1);
}

static void launch(float* y, const float* x, const float* w, Layer layer) {
  const int blocks = ceil_div(layer.pixels(), kRows) * ceil_div(layer.filters, kColumns);
#if defined(__CUDACC__)
  convolve<<<blocks, kThreads>>>(y, x, w, layer);
  check(cudaGetLastError());
#else
  check(hostcuda::launch("convolve", blocks, kThreads, 0, nullptr, [=] { convolve(y, x, w, layer); }));
#endif
}

// An array on the device; `host` goes there.
static float* on_device(const std::vector<float>& host) {
  float* device = nullptr;
  check(cudaMalloc(&device, host.size() * sizeof(float)));
  check(cudaMemcpy(device, host.data(), host.size() * sizeof(float), cudaMemcpyHostToDevice));
  return device;
}

int main(int count, char** arguments) {
  if (count != 6) return 2;
  const auto number = [&](int i) { return std::atoi(arguments[i]); };
  const Layer layer{number(1), number(2), number(3), number(4), number(5)};
  std::vector<float> x(layer.pixels() * layer.channels), w(layer.terms() * layer.filters);
  std::vector<float> y(layer.pixels() * layer.filters, NAN);
  if (std::fread(x.data(), sizeof(float), x.size(), stdin) != x.size()) return 2;
  if (std::fread(w.data(), sizeof(float), w.size(), stdin) != w.size()) return 2;

#if !defined(__CUDACC__)
  hostcuda::Configuration configuration;
  configuration.fill_new_memory = true;
  check(hostcuda::configure(configuration));
  const int calls = 1;
#else
  const int calls = 10;
#endif
  float *const to = on_device(y), *const of_x = on_device(x), *const of_w = on_device(w);
  cudaEvent_t start, end;
  check(cudaEventCreateWithFlags(&start, cudaEventDefault)), check(cudaEventCreateWithFlags(&end, cudaEventDefault));
  for (int call = 0; call < calls; ++call) {
    check(cudaEventRecord(start));
    launch(to, of_x, of_w, layer);
    check(cudaEventRecord(end));
  }
  check(cudaEventSynchronize(end));
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, start, end));
  std::fprintf(stderr, "%.4f ms\n", milliseconds);

  check(cudaMemcpy(y.data(), to, y.size() * sizeof(float), cudaMemcpyDeviceToHost));
  return std::fwrite(y.data(), sizeof(float), y.size(), stdout) == y.size() ? 0 : 1;
}
