#include "kernels/peak.cuh"

#include "device/launch.cuh"
#include "device/vec.cuh"

namespace pyalexnet {

namespace {

constexpr int kThreads = kRunsOnCores ? 1 : 256;
constexpr int kLanes = kRunsOnCores ? kVectorFloats : 1;
// Independent chains cover the latency of a multiply-add (5 cycles, two a cycle) and fit 16 registers.
constexpr int kChains = 12;

__global__ void multiply_add_peak_kernel(float* sink, int64_t rounds, float factor, float term) {
  Vec<kLanes> chains[kChains];
  PYALEXNET_UNROLL
  for (int c = 0; c < kChains; ++c) chains[c] = broadcast<kLanes>(static_cast<float>(threadIdx.x + c));
  const Vec<kLanes> factors = broadcast<kLanes>(factor), terms = broadcast<kLanes>(term);
  for (int64_t round = 0; round < rounds; ++round) {
    PYALEXNET_UNROLL
    for (int c = 0; c < kChains; ++c) chains[c] = fma(chains[c], factors, terms);
  }
  Vec<kLanes> sum = chains[0];
  PYALEXNET_UNROLL
  for (int c = 1; c < kChains; ++c) sum = sum + chains[c];
  float total = 0.0f;
  for (int i = 0; i < kLanes; ++i) total += sum[i];
  if (threadIdx.x == 0) sink[blockIdx.x] = total;
}

}  // namespace

void multiply_add_peak(float* sink, int64_t blocks, int64_t rounds, cudaStream_t stream) {
  require(blocks >= 1 && blocks <= INT32_MAX, "blocks is ", blocks, "; it must be from 1 to ", INT32_MAX);
  require(rounds >= 1, "rounds is ", rounds, "; it must be at least 1");
  // A factor below 1 keeps the chains finite; neither value can be folded away at compile time.
  launch<multiply_add_peak_kernel>(
      {"multiply_add_peak_kernel", dim3(static_cast<unsigned>(blocks)), dim3(kThreads), stream}, sink, rounds, 0.999f,
      0.5f);
}

Cost multiply_add_peak_cost(int64_t blocks, int64_t rounds) {
  return {blocks * kThreads * rounds * kChains * kLanes * 2, blocks * int64_t{sizeof(float)}};
}

}  // namespace pyalexnet
