#include "kernels/sgd.cuh"

#include <cmath>

#include "device/elementwise.cuh"

namespace pyalexnet {

namespace {

__global__ void sgd_step_kernel(float* w, float* v, const float* g, int64_t count, bool vectors, float lr,
                                float momentum, float decay_lr) {
  for_each_vector(count, vectors, [&]<int N>(int64_t i) {
    const Vec<N> weight = load<N>(w + i);
    const Vec<N> decayed = fma(broadcast<N>(-decay_lr), weight, broadcast<N>(momentum) * load<N>(v + i));
    const Vec<N> velocity = fma(broadcast<N>(-lr), load<N>(g + i), decayed);
    store(v + i, velocity);
    store(w + i, weight + velocity);
  });
}

void check_rate(const char* name, float rate) {
  require(std::isfinite(rate) && rate >= 0, name, " is ", rate, "; it must be finite and not negative");
}

}  // namespace

void sgd_step(float* w, float* v, const float* g, int64_t count, const Sgd& sgd, cudaStream_t stream) {
  require(count >= 1, "count is ", count, "; it must be at least 1");
  check_rate("lr", sgd.lr);
  check_rate("momentum", sgd.momentum);
  check_rate("weight_decay", sgd.weight_decay);
  const bool vectors = vectors_aligned(w) && vectors_aligned(v) && vectors_aligned(g);
  launch<sgd_step_kernel>(share_out_vectors("sgd_step_kernel", count, 20, stream), w, v, g, count, vectors, sgd.lr,
                          sgd.momentum, sgd.weight_decay * sgd.lr);
}

Cost sgd_step_cost(int64_t count) {
  constexpr int64_t kFlops = 6, kFloatsMoved = 5;
  return {kFlops * count, kFloatsMoved * 4 * count};
}

}  // namespace pyalexnet
