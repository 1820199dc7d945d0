// Warps: shuffles and votes against plain computations, partial masks, and the misuse of masks.
#include "runner.h"

#include <bit>
#include <cstdint>

namespace {

constexpr unsigned full = 0xffffffffu;

// What lane `lane` of a full warp gets, by CUDA's rules, if every lane holds 100 + its number.
struct Expected {
  int indexed, up, down, exclusive;
};
Expected expected(int lane, int argument, int width) {
  const int first = lane / width * width, last = first + width - 1;
  const auto held = [](int source) { return 100 + source; };
  const int indexed = held(first + argument % width);
  const int up = held(lane - argument < first ? lane : lane - argument);
  const int down = held(lane + argument > last ? lane : lane + argument);
  const int exclusive = held((lane ^ argument) > last ? lane : lane ^ argument);
  return {indexed, up, down, exclusive};
}

template <class T>
void check_shuffle_keeps(T value) {
  const DeviceArray<T> results(32);
  CHECK_CUDA(hostcuda::launch("shuffle_keeps", 1, 32, 0, nullptr, [results = results.data, value] {
    results[threadIdx.x] = __shfl_sync(full, threadIdx.x == 9 ? value : T{}, 9);
  }));
  for (T result : results.to_host()) CHECK_EQUAL(result, value);
}

}  // namespace

TEST(shuffles_of_all_kinds) {
  const DeviceArray<int> results(4 * 64);
  for (int width : {1, 2, 4, 8, 16, 32}) {
    for (int argument = 0; argument < 32; ++argument) {
      CHECK_CUDA(hostcuda::launch("shuffles", 1, 64, 0, nullptr, [results = results.data, argument, width] {
        const unsigned t = threadIdx.x;
        const int held = 100 + t % 32;
        results[t] = __shfl_sync(full, held, argument, width);
        results[64 + t] = __shfl_up_sync(full, held, argument, width);
        results[128 + t] = __shfl_down_sync(full, held, argument, width);
        results[192 + t] = __shfl_xor_sync(full, held, argument, width);
      }));
      const std::vector<int> result = results.to_host();
      for (int t = 0; t < 64; ++t) {
        const Expected right = expected(t % 32, argument, width);
        CHECK_EQUAL(result[t], right.indexed);
        CHECK_EQUAL(result[64 + t], right.up);
        CHECK_EQUAL(result[128 + t], right.down);
        CHECK_EQUAL(result[192 + t], right.exclusive);
      }
    }
  }
}

TEST(shuffles_of_all_types) {
  check_shuffle_keeps(-7);
  check_shuffle_keeps(0xfffffff0u);
  check_shuffle_keeps(-1.5f);
  check_shuffle_keeps(3.25e200);
  check_shuffle_keeps(std::int64_t{-1} << 40);
  check_shuffle_keeps(std::uint64_t{1} << 63);
}

TEST(votes) {
  const DeviceArray<unsigned> results(4 * 32);
  CHECK_CUDA(hostcuda::launch("votes", 1, 32, 0, nullptr, [results = results.data] {
    const unsigned t = threadIdx.x;
    results[t] = __ballot_sync(full, t % 3 == 0);
    results[32 + t] = __any_sync(full, t == 31) + 2 * __any_sync(full, 0);
    results[64 + t] = __all_sync(full, t < 31) + 2 * __all_sync(full, 1);
    results[96 + t] = __activemask() >> t & 1;
  }));
  unsigned thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  const std::vector<unsigned> result = results.to_host();
  for (int t = 0; t < 32; ++t) {
    CHECK_EQUAL(result[t], thirds);
    CHECK_EQUAL(result[32 + t], 1u);
    CHECK_EQUAL(result[64 + t], 2u);
    CHECK_EQUAL(result[96 + t], 1u);
  }
}

TEST(warps_reduce_and_the_block_combines) {
  const DeviceArray<int> sums(8);
  CHECK_CUDA(hostcuda::launch("reduce", 8, 256, 0, nullptr, [sums = sums.data] {
    __shared__ int of_warp[8];
    int value = threadIdx.x + blockIdx.x;
    for (int reach = 16; reach > 0; reach /= 2) value += __shfl_down_sync(full, value, reach);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x >= 8) return;
    value = of_warp[threadIdx.x];
    for (int reach = 4; reach > 0; reach /= 2) value += __shfl_xor_sync(0xffu, value, reach);
    if (threadIdx.x == 0) sums[blockIdx.x] = value;
  }));
  const std::vector<int> result = sums.to_host();
  for (int block = 0; block < 8; ++block) CHECK_EQUAL(result[block], 255 * 256 / 2 + 256 * block);
}

TEST(divergent_warp_with_partial_masks) {
  const DeviceArray<int> results(32);
  CHECK_CUDA(hostcuda::launch("divergent", 1, 32, 0, nullptr, [results = results.data] {
    const int lane = threadIdx.x;
    int value = lane;
    if (lane % 2 == 0) {
      // Sixteen lanes, five steps; the other lanes take another number of steps at the same time.
      for (int step = 0; step < 5; ++step) value = __shfl_sync(0x55555555u, value, (lane + 2) % 32);
    } else if (lane % 4 == 1) {
      value = static_cast<int>(__ballot_sync(0x22222222u, lane > 16));
    } else {
      for (int step = 0; step < 2; ++step) {
        __syncwarp(0x88888888u);
        value = __shfl_xor_sync(0x88888888u, value, 4);
      }
    }
    __syncwarp();
    results[lane] = value + __shfl_sync(full, 1000, 0);
  }));
  const std::vector<int> result = results.to_host();
  for (int lane = 0; lane < 32; ++lane) {
    if (lane % 2 == 0) CHECK_EQUAL(result[lane], 1000 + (lane + 10) % 32);
    if (lane % 4 == 1) CHECK_EQUAL(result[lane], 1000 + 0x22220000);
    if (lane % 4 == 3) CHECK_EQUAL(result[lane], 1000 + lane);
  }
}

TEST(lanes_that_returned_are_not_waited_for) {
  const DeviceArray<unsigned> ballots(40);
  CHECK_CUDA(hostcuda::launch("leaving", 1, 40, 0, nullptr, [ballots = ballots.data] {
    if (threadIdx.x % 32 >= 20) return;
    ballots[threadIdx.x] = __ballot_sync(full, 1);  // the second warp has eight lanes only
  }));
  const std::vector<unsigned> result = ballots.to_host();
  for (int t = 0; t < 20; ++t) CHECK_EQUAL(result[t], 0xfffffu);
  for (int t = 32; t < 40; ++t) CHECK_EQUAL(result[t], 0xffu);
}

TEST(reading_a_lane_that_takes_no_part_gives_nan) {
  const DeviceArray<float> results(8);
  CHECK_CUDA(hostcuda::launch("absent", 1, 32, 0, nullptr, [results = results.data] {
    if (threadIdx.x < 8) results[threadIdx.x] = __shfl_down_sync(0xffu, 1.0f, 4);
  }));
  const std::vector<float> result = results.to_host();
  for (int lane = 0; lane < 4; ++lane) CHECK_EQUAL(result[lane], 1.0f);
  for (int lane = 4; lane < 8; ++lane) CHECK(result[lane] != result[lane]);
}

TEST(lane_outside_its_mask) {
  CHECK_CUDA(hostcuda::launch("outside", 1, 32, 0, nullptr, [] { __shfl_sync(0x0000ffffu, 1, 0); }));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  check_detail_has("kernel outside, block (0, 0, 0), thread (16, 0, 0)");
  check_detail_has("mask 0x0000ffff, which does not name its own lane 16");
}

TEST(masks_that_disagree) {
  CHECK_CUDA(hostcuda::launch("disagreeing", 1, 32, 0, nullptr, [] {
    __syncwarp(threadIdx.x == 0 ? 0x1u : full);
    __syncwarp(threadIdx.x == 0 ? 0x3u : full);
  }));
  CHECK_ERROR(cudaDeviceSynchronize(), cudaErrorLaunchTimeout);
  check_detail_has("1 of warp 0 at a warp operation with the mask 0x00000003");
}

TEST(intrinsics) {
  CHECK_EQUAL(__umulhi(0xffffffffu, 0xffffffffu), 0xfffffffeu);
  CHECK_EQUAL(__float_as_uint(1.0f), 0x3f800000u);
  CHECK_EQUAL(__uint_as_float(0xc0000000u), -2.0f);
  const float third = 1.0f / 3.0f;  // a fused multiply-add rounds once
  CHECK_EQUAL(__fmaf_rn(third, 3.0f, -1.0f), static_cast<float>(static_cast<double>(third) * 3.0 - 1.0));
}
