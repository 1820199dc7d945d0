// Blocks: threads, barriers, shared memory, schedules, and what goes wrong inside a kernel.
#include "runner.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>

namespace {

// Sums each block's 256 values by halving.
__global__ void block_sum_kernel(float* sums, const float* values) {
  __shared__ float partial[256];
  const unsigned t = threadIdx.x;
  partial[t] = values[blockIdx.x * 256 + t];
  __syncthreads();
  for (unsigned reach = 128; reach > 0; reach /= 2) {
    if (t < reach) partial[t] += partial[t + reach];
    __syncthreads();
  }
  if (t == 0) sums[blockIdx.x] = partial[0];
}

void check_block_sums() {
  constexpr unsigned blocks = 64;
  std::vector<float> values(blocks * 256);
  std::iota(values.begin(), values.end(), 0.0f);
  const DeviceArray<float> input(values.size()), sums(blocks);
  CHECK_CUDA(cudaMemcpy(input.data, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice));
  const auto kernel = [y = sums.data, x = input.data] { block_sum_kernel(y, x); };
  CHECK_CUDA(hostcuda::launch("block_sum_kernel", blocks, 256, 0, nullptr, kernel));
  const std::vector<float> result = sums.to_host();
  for (unsigned block = 0; block < blocks; ++block) {
    // Whole numbers below 2^24: every order of summation is exact.
    CHECK_EQUAL(result[block], 256.0f * (256.0f * block) + 255.0f * 256.0f / 2);
  }
}

// The order in which a core starts the threads of one block, or the blocks of a grid of one thread each.
std::vector<unsigned> order_of_threads(unsigned threads) {
  const DeviceArray<unsigned> order(threads), next(1);
  const auto kernel = [order = order.data, next = next.data] { order[std::atomic_ref(*next)++] = threadIdx.x; };
  CHECK_CUDA(hostcuda::launch("order", 1, threads, 0, nullptr, kernel));
  return order.to_host();
}

std::vector<unsigned> order_of_blocks(unsigned blocks) {
  const DeviceArray<unsigned> order(blocks), next(1);
  const auto kernel = [order = order.data, next = next.data] { order[std::atomic_ref(*next)++] = blockIdx.x; };
  CHECK_CUDA(hostcuda::launch("order", blocks, 1, 0, nullptr, kernel));
  return order.to_host();
}

bool is_permutation_of_range(std::vector<unsigned> order) {
  std::sort(order.begin(), order.end());
  for (unsigned i = 0; i < order.size(); ++i) {
    if (order[i] != i) return false;
  }
  return true;
}

}  // namespace

TEST(indices_cover_the_grid) {
  constexpr dim3 grid(5, 3, 2), block(4, 3, 5);
  const DeviceArray<int> visits(5 * 3 * 2 * 4 * 3 * 5);
  CHECK_CUDA(hostcuda::launch("visit", grid, block, 0, nullptr, [visits = visits.data] {
    const unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    visits[b * blockDim.x * blockDim.y * blockDim.z + t] += 1;
  }));
  for (int visited : visits.to_host()) CHECK_EQUAL(visited, 1);
}

TEST(barriers_in_loops) {
  check_block_sums();
}

TEST(barriers_count_predicates) {
  const DeviceArray<int> results(3 * 96);
  CHECK_CUDA(hostcuda::launch("predicates", 1, 96, 0, nullptr, [results = results.data] {
    const unsigned t = threadIdx.x;
    results[t] = __syncthreads_count(t % 3 == 0);
    results[96 + t] = __syncthreads_or(t == 95) + 2 * __syncthreads_or(0);
    results[192 + t] = __syncthreads_and(t < 95) + 2 * __syncthreads_and(1);
  }));
  const std::vector<int> result = results.to_host();
  for (int t = 0; t < 96; ++t) {
    CHECK_EQUAL(result[t], 32);
    CHECK_EQUAL(result[96 + t], 1);
    CHECK_EQUAL(result[192 + t], 2);
  }
}

TEST(threads_that_returned_count_as_arrived) {
  const DeviceArray<int> counts(100);
  CHECK_CUDA(hostcuda::launch("early_exit", 8, 100, 0, nullptr, [counts = counts.data] {
    for (unsigned round = 0; round < 100; ++round) {
      if (threadIdx.x == round) return;
      const int others = __syncthreads_count(1);
      if (threadIdx.x == 99 && blockIdx.x == 7) counts[round] = others;
    }
  }));
  const std::vector<int> result = counts.to_host();
  for (int round = 0; round < 99; ++round) CHECK_EQUAL(result[round], 99 - round);
}

TEST(blocks_of_all_sizes) {
  for (unsigned threads : {1u, 2u, 31u, 33u, 96u, 255u, 1000u, 1024u}) {
    const DeviceArray<int> counts(3 * threads);
    CHECK_CUDA(hostcuda::launch("count", 3, threads, 0, nullptr, [counts = counts.data] {
      __syncthreads();
      counts[blockIdx.x * blockDim.x + threadIdx.x] = __syncthreads_count(1);
    }));
    for (int count : counts.to_host()) CHECK_EQUAL(count, static_cast<int>(threads));
  }
}

TEST(live_registers_survive_a_barrier) {
  typedef float Vector __attribute__((vector_size(32)));
  constexpr int vectors = 24, threads = 96;
  const DeviceArray<float> sums(2 * threads);
  CHECK_CUDA(hostcuda::launch("accumulate", 2, threads, 0, nullptr, [sums = sums.data] {
    Vector sum[vectors];
    for (int v = 0; v < vectors; ++v) sum[v] = Vector{} + static_cast<float>(threadIdx.x + v);
    for (int round = 0; round < 10; ++round) {
      for (int v = 0; v < vectors; ++v) sum[v] += 1.0f;
      __syncthreads();
    }
    float total = 0;
    for (int v = 0; v < vectors; ++v) {
      for (int i = 0; i < 8; ++i) total += sum[v][i];
    }
    sums[blockIdx.x * threads + threadIdx.x] = total;
  }));
  const std::vector<float> result = sums.to_host();
  for (int i = 0; i < 2 * threads; ++i) {
    CHECK_EQUAL(result[i], 8.0f * (vectors * (i % threads + 10) + vectors * (vectors - 1) / 2));
  }
}

TEST(barrier_that_is_never_met) {
  CHECK_CUDA(hostcuda::launch("divided", 3, 64, 0, nullptr, [] {
    if (blockIdx.x != 1) return;
    if (threadIdx.x % 32 < 16) {
      __syncthreads();
    } else {
      __syncwarp();
    }
  }));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchTimeout);
  check_detail_has("kernel divided, block (1, 0, 0)");
  check_detail_has("32 at __syncthreads");
  check_detail_has("16 of warp 1 at a warp operation with the mask 0xffffffff");
  check_block_sums();
}

TEST(different_barriers_do_not_meet) {
  CHECK_CUDA(hostcuda::launch("mixed", 1, 64, 0, nullptr, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads_or(1);
    }
  }));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  check_detail_has("another kind of __syncthreads");
}

TEST(exception_in_a_kernel) {
  for (int round = 0; round < 3; ++round) {
    CHECK_CUDA(hostcuda::launch("throwing", 10, 64, 0, nullptr, [] {
      __syncthreads();
      if (blockIdx.x == 3 && threadIdx.x == 7) throw std::out_of_range("seven is too many");
      __syncthreads();
    }));
    CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    check_detail_has("kernel throwing, block (3, 0, 0), thread (7, 0, 0)");
    check_detail_has("seven is too many");
  }
  CHECK_CUDA(hostcuda::launch("throwing_an_int", 1, 1, 0, nullptr, [] { throw 7; }));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  CHECK_CUDA(hostcuda::launch("trapping", 1, 1, 0, nullptr, [] { __trap(); }));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  check_detail_has("__trap");
  check_block_sums();
}

TEST(stack_overflow) {
  CHECK_CUDA(hostcuda::launch("greedy", 1, 2, 0, nullptr, [] {
    volatile char large[100 << 10];
    for (char volatile& byte : large) byte = 1;
    __syncthreads();
  }));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  check_detail_has("kernel greedy: stack overflow");
  check_block_sums();
}

TEST(errors_stay_until_reported) {
  const DeviceArray<int> value(1);
  CHECK_CUDA(hostcuda::launch("trapping", 1, 1, 0, nullptr, [] { __trap(); }));
  CHECK_CUDA(hostcuda::launch("dropped", 1, 1, 0, nullptr, [value = value.data] { *value = 1; }));
  CHECK_ERROR(cudaStreamSynchronize(nullptr), cudaErrorLaunchFailure);
  CHECK_ERROR(cudaPeekAtLastError(), cudaErrorLaunchFailure);
  CHECK_ERROR(cudaGetLastError(), cudaErrorLaunchFailure);
  CHECK_CUDA(cudaGetLastError());
  CHECK_CUDA(cudaStreamSynchronize(nullptr));
  CHECK_EQUAL(value.to_host()[0], 0);

  // The other device has its own errors.
  CHECK_CUDA(hostcuda::launch("trapping", 1, 1, 0, nullptr, [] { __trap(); }));
  CHECK_CUDA(cudaSetDevice(1));
  CHECK_CUDA(cudaDeviceSynchronize());
  CHECK_CUDA(cudaSetDevice(0));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
}

TEST(impossible_configurations) {
  const auto launch = [](dim3 grid, dim3 block, std::size_t shared_bytes) {
    return hostcuda::launch("impossible", grid, block, shared_bytes, nullptr, [] {});
  };
  CHECK_ERROR(launch(0, 1, 0), cudaErrorInvalidConfiguration);
  CHECK_ERROR(launch(1, 0, 0), cudaErrorInvalidConfiguration);
  CHECK_ERROR(launch(1, 1025, 0), cudaErrorInvalidConfiguration);
  CHECK_ERROR(launch(1, dim3(32, 33), 0), cudaErrorInvalidConfiguration);
  CHECK_ERROR(launch(1, dim3(1, 1, 65), 0), cudaErrorInvalidConfiguration);
  CHECK_ERROR(launch(dim3(1, 65536), 1, 0), cudaErrorInvalidConfiguration);
  CHECK_ERROR(launch(0x80000000u, 1, 0), cudaErrorInvalidConfiguration);
  CHECK_ERROR(launch(1, 1, (std::size_t{1} << 20) + 1), cudaErrorInvalidConfiguration);
  check_detail_has("kernel impossible");
  CHECK_ERROR(cudaGetLastError(), cudaErrorInvalidConfiguration);
  CHECK_CUDA(launch(dim3(1, 65535), 1, std::size_t{1} << 20));
  CHECK_CUDA(cudaDeviceSynchronize());
}

TEST(dynamic_shared_memory) {
  constexpr unsigned threads = 128;
  const DeviceArray<float> reversed(4 * threads);
  CHECK_CUDA(hostcuda::launch("reverse", 4, threads, threads * sizeof(float), nullptr, [y = reversed.data] {
    float* tile = hostcuda::dynamic_shared<float>();
    tile[threadIdx.x] = static_cast<float>(threadIdx.x);
    __syncthreads();
    y[blockIdx.x * threads + threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
  }));
  const std::vector<float> result = reversed.to_host();
  for (unsigned i = 0; i < 4 * threads; ++i) {
    CHECK_EQUAL(result[i], static_cast<float>(threads - 1 - i % threads));
  }
}

TEST(schedules) {
  hostcuda::Configuration one_core;
  one_core.cores = 1;
  CHECK_CUDA(hostcuda::configure(one_core));
  using hostcuda::Order;
  for (unsigned count : {1u, 2u, 3u, 31u, 100u, 1000u}) {
    CHECK_CUDA(hostcuda::set_schedule({}));
    const std::vector<unsigned> ascending = order_of_threads(count);
    CHECK(is_permutation_of_range(ascending) && std::is_sorted(ascending.begin(), ascending.end()));
    CHECK(order_of_blocks(count) == ascending);

    CHECK_CUDA(hostcuda::set_schedule({Order::descending, Order::descending, 0}));
    std::vector<unsigned> descending = order_of_threads(count);
    CHECK(order_of_blocks(count) == descending);
    std::reverse(descending.begin(), descending.end());
    CHECK(descending == ascending);

    std::set<std::vector<unsigned>> orders;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      CHECK_CUDA(hostcuda::set_schedule({Order::random, Order::random, seed}));
      const std::vector<unsigned> threads = order_of_threads(count), blocks = order_of_blocks(count);
      CHECK(is_permutation_of_range(threads));
      CHECK(is_permutation_of_range(blocks));
      CHECK(order_of_threads(count) == threads);  // the same seed, the same order
      orders.insert(threads);
    }
    CHECK(count < 31 || orders.size() == 8);
  }
  for (Order order : {Order::ascending, Order::descending, Order::random}) {
    CHECK_CUDA(hostcuda::set_schedule({order, order, 5}));
    check_block_sums();
  }
}

TEST(denormals_are_zero) {
  const DeviceArray<float> result(1);
  CHECK_CUDA(hostcuda::launch("denormal", 1, 1, 0, nullptr, [result = result.data] {
    volatile float small = 1e-30f;
    *result = small * 1e-10f;
  }));
  CHECK_EQUAL(result.to_host()[0], 0.0f);
}

TEST(new_memory_is_filled_on_request) {
  hostcuda::Configuration configuration;
  configuration.fill_new_memory = true;
  CHECK_CUDA(hostcuda::configure(configuration));
  for (std::size_t count : {std::size_t{100}, std::size_t{1} << 20}) {
    unsigned* data = nullptr;
    CHECK_CUDA(cudaMalloc(&data, count * sizeof(unsigned)));
    CHECK_EQUAL(data[0], 0xffffffffu);
    CHECK_EQUAL(data[count - 1], 0xffffffffu);
    CHECK_CUDA(cudaFree(data));
  }
  const DeviceArray<unsigned> seen(4);
  CHECK_CUDA(hostcuda::launch("unwritten", 4, 1, 64, nullptr, [seen = seen.data] {
    unsigned* tile = hostcuda::dynamic_shared<unsigned>();
    seen[blockIdx.x] = tile[15];
    tile[15] = 0;
  }));
  for (unsigned value : seen.to_host()) CHECK_EQUAL(value, 0xffffffffu);
}

TEST(asynchronous_copies_are_made_by_the_wait_for_their_group) {
  constexpr unsigned threads = 40;
  const DeviceArray<float> from(4 * threads), seen(5 * threads);
  for (unsigned i = 0; i < 4 * threads; ++i) from.data[i] = static_cast<float>(i + 1);
  for (int launch = 0; launch < 2; ++launch) {  // what the first leaves undone is no concern of the second
    CHECK_CUDA(hostcuda::launch("copies", 3, threads, 16 * threads, nullptr, [from = from.data, seen = seen.data] {
      const unsigned t = threadIdx.x;
      float* const mine = hostcuda::dynamic_shared<float>() + 4 * t;
      for (int e = 0; e < 4; ++e) mine[e] = -1.0f;
      hostcuda::copy_async(mine, from + 4 * t, 1, 1);
      hostcuda::close_copies();
      hostcuda::copy_async(mine + 1, from + 4 * t + 1, 2, 1);  // a float, and a zero behind it
      hostcuda::close_copies();
      hostcuda::close_copies();  // an empty group
      hostcuda::copy_async(mine + 3, from + 4 * t + 3, 1, 1);
      seen[5 * t] = mine[0];
      hostcuda::wait_for_copies(2);
      seen[5 * t + 1] = mine[0], seen[5 * t + 2] = mine[1];
      __syncthreads();
      hostcuda::wait_for_copies(0);
      seen[5 * t + 3] = mine[1] + mine[2];
      seen[5 * t + 4] = mine[3];  // its group was never closed
    }));
    const std::vector<float> result = seen.to_host();
    for (unsigned t = 0; t < threads; ++t) {
      CHECK_EQUAL(result[5 * t], -1.0f);
      CHECK_EQUAL(result[5 * t + 1], static_cast<float>(4 * t + 1));
      CHECK_EQUAL(result[5 * t + 2], -1.0f);
      CHECK_EQUAL(result[5 * t + 3], static_cast<float>(4 * t + 2));
      CHECK_EQUAL(result[5 * t + 4], -1.0f);
    }
  }
}
