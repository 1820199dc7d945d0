// mma.sync.m16n8k8 of tf32 and m16n8k16 of bf16, whose fragments src/device/tensor_multiply.cuh describes. Terms are added
// one by one, as the sim target does, each sum rounded to float32; what a GPU rounds NVIDIA does not say.
#include <bit>

#include "ptx/executor.h"
#include "ptx/operations.h"

namespace ptx {

namespace {

float of_bits(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}

// sum + the products of a word of each side.
float add_word(bool bf16, float sum, std::uint32_t left, std::uint32_t right) {
  constexpr std::uint32_t kTf32 = 0xffffe000u, kHigh = 0xffff0000u;
  if (!bf16) return sum + of_bits(left & kTf32) * of_bits(right & kTf32);
  sum += of_bits(left << 16) * of_bits(right << 16);
  return sum + of_bits(left & kHigh) * of_bits(right & kHigh);
}

}  // namespace

void multiply_matrices(Warp& warp, const Instruction& instruction) {
  const MatrixProduct& product = instruction.product;
  std::array<std::array<float, kLanes>, 4> sums;
  for (std::size_t i = 0; i < 4; ++i) {
    const std::uint32_t* const added = warp.lanes<std::uint32_t>(product.added[i]);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const std::size_t group = lane / 4, column = lane % 4 * 2 + i % 2;
      float sum = of_bits(added[lane]);
      for (std::size_t word = 0; word < 8; ++word) {
        const std::uint32_t* const left = warp.lanes<std::uint32_t>(product.left[word / 4 * 2 + i / 2]);
        const std::uint32_t* const right = warp.lanes<std::uint32_t>(product.right[word / 4]);
        sum = add_word(product.bf16, sum, left[group * 4 + word % 4], right[column * 4 + word % 4]);
      }
      sums[i][lane] = sum;
    }
  }
  for (std::size_t i = 0; i < 4; ++i) {
    std::uint32_t* const to = warp.lanes<std::uint32_t>(product.to[i]);
    for (std::size_t lane = 0; lane < kLanes; ++lane) to[lane] = std::bit_cast<std::uint32_t>(sums[i][lane]);
  }
}

}  // namespace ptx
