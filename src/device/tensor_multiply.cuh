// The instruction of tensor cores (sm_80 and newer): a warp's sums of 16 x 8 += 16 x K times K x 8, with the operands'
// elements in words of 32 bits: K is 8 words of tf32, or 8 words of two bf16 each.
//
// Of a lane, with group = lane / 4 and place = lane % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k8 / m16n8k16"):
//
//   left   rows group and group + 8 at word `place`, then both at word place + 4
//   right  column `group` at words `place` and place + 4
//   sums   row `group`, columns 2 place and 2 place + 1; then row group + 8
//
// Products are exact. In which order a GPU adds them, and how it rounds, NVIDIA does not say; here terms are added one by
// one, each sum rounded to float32.
#pragma once

#include "device/precision.cuh"

namespace pyalexnet {

struct LeftWords {
  float at[4];
};

struct RightWords {
  float at[2];
};

// The four sums of a lane, where they are kept.
struct LaneSums {
  float &first, &second;              // of row `group`
  float &lower_first, &lower_second;  // of row group + 8
};

#if defined(__CUDACC__)

PYALEXNET_INLINE void multiply_add_words(Precision precision, LaneSums sums, const LeftWords& left,
                                         const RightWords& right) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800  // elsewhere multiply_block ends before this
  const auto word = [](float value) { return __float_as_uint(value); };
  if (precision == Precision::kBf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums.first), "+f"(sums.second), "+f"(sums.lower_first), "+f"(sums.lower_second)
        : "r"(word(left.at[0])), "r"(word(left.at[1])), "r"(word(left.at[2])), "r"(word(left.at[3])),
          "r"(word(right.at[0])), "r"(word(right.at[1])));
  } else {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums.first), "+f"(sums.second), "+f"(sums.lower_first), "+f"(sums.lower_second)
        : "r"(word(left.at[0])), "r"(word(left.at[1])), "r"(word(left.at[2])), "r"(word(left.at[3])),
          "r"(word(right.at[0])), "r"(word(right.at[1])));
  }
#endif
}

#else

namespace detail {

// What the instruction looks at of a word of tf32.
inline float upper_bits(float word) {
  return float_of(bits_of(word) & 0xffffe000u);
}

// sum + the products of a word of each side.
inline float add_word(Precision precision, float sum, float left, float right) {
  if (precision != Precision::kBf16) return sum + upper_bits(left) * upper_bits(right);
  const unsigned l = bits_of(left), r = bits_of(right);
  sum += float_of(l << 16) * float_of(r << 16);
  return sum + float_of(l & 0xffff0000u) * float_of(r & 0xffff0000u);
}

}  // namespace detail

// Never inlined: unrolled loops call it many times.
__attribute__((noinline)) inline void multiply_add_words(Precision precision, LaneSums sums, const LeftWords& left,
                                                         const RightWords& right) {
  struct Lane {
    LeftWords left;
    RightWords right;
  };
  __shared__ Lane warps[32][32];
  Lane(&lanes)[32] = warps[threadIdx.x / 32];
  const unsigned lane = threadIdx.x % 32, group = lane / 4, place = lane % 4;
  lanes[lane] = {left, right};
  __syncwarp();
  const auto add = [&](float& sum, int lower, unsigned column) {
    for (unsigned word = 0; word < 8; ++word) {
      const float l = lanes[group * 4 + word % 4].left.at[word / 4 * 2 + lower];
      sum = detail::add_word(precision, sum, l, lanes[column * 4 + word % 4].right.at[word / 4]);
    }
  };
  add(sums.first, 0, 2 * place), add(sums.second, 0, 2 * place + 1);
  add(sums.lower_first, 1, 2 * place), add(sums.lower_second, 1, 2 * place + 1);
  __syncwarp();  // others have read what the next call overwrites
}

#endif

}  // namespace pyalexnet
