// The one place that knows which compiler and which target a kernel is compiled for.
//
// Targets: `cuda` (nvcc), `cpu` (a C++ compiler, full speed on CPU cores, one build an instruction set),
// `sim` (a C++ compiler, the tile shapes that nvcc compiles, executed under CUDA's rules) and `ptx` (kernels as nvcc
// compiles them, executed by src/ptx). <cuda_runtime.h> is NVIDIA's for nvcc and src/hostcuda's for a C++ compiler.
// Everything that differs between targets is named here or in tile.cuh, and the rules by which products are planned in
// kernels/product_plan.cu, so that no kernel asks where it runs.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// Vectors of plain floats on a GPU, and in the target that executes what a GPU does; of vector registers elsewhere.
#if defined(__CUDACC__) || defined(PYALEXNET_TARGET_SIM)
#define PYALEXNET_PLAIN_LANES
#endif

#if defined(__CUDACC__)
#define PYALEXNET_UNROLL _Pragma("unroll")
#define PYALEXNET_UNROLL_TWICE _Pragma("unroll 2")
#define PYALEXNET_INLINE __device__ __forceinline__
// Of loops over what a GPU's thread holds in registers, and a core in its first cache.
#define PYALEXNET_UNROLL_ON_GPUS PYALEXNET_UNROLL
// Of a kernel's parameter that all threads read where it is, and none copies.
#define PYALEXNET_GRID_CONSTANT __grid_constant__
#else
#if !defined(PYALEXNET_TARGET_CUDA)
#include "hostcuda.h"
#endif
#if defined(PYALEXNET_TARGET_SIM)
// Tests take the time that compiling takes, and little of theirs is spent in loops' counters.
#define PYALEXNET_UNROLL
#define PYALEXNET_UNROLL_TWICE
#elif defined(__clang__)
#define PYALEXNET_UNROLL _Pragma("clang loop unroll(full)")
#define PYALEXNET_UNROLL_TWICE _Pragma("clang loop unroll_count(2)")
#else
#define PYALEXNET_UNROLL _Pragma("GCC unroll 64")
#define PYALEXNET_UNROLL_TWICE _Pragma("GCC unroll 2")
#endif
#define PYALEXNET_UNROLL_ON_GPUS
#define PYALEXNET_INLINE inline __attribute__((always_inline))
#define PYALEXNET_GRID_CONSTANT
#endif

namespace pyalexnet {

// The build sets exactly one PYALEXNET_TARGET_*.
#if defined(PYALEXNET_TARGET_CPU)
inline constexpr bool kRunsOnCores = true;
// Floats in one vector register of the instruction set that this build is for.
#if defined(__AVX512F__)
inline constexpr int kVectorFloats = 16;
#elif defined(__AVX__)
inline constexpr int kVectorFloats = 8;
#else
inline constexpr int kVectorFloats = 4;
#endif
#elif defined(PYALEXNET_TARGET_SIM) || defined(PYALEXNET_TARGET_CUDA) || defined(PYALEXNET_TARGET_PTX)
inline constexpr bool kRunsOnCores = false;
// One 16-byte access, the widest a CUDA thread makes.
inline constexpr int kVectorFloats = 4;
#else
#error "define PYALEXNET_TARGET_CPU, PYALEXNET_TARGET_SIM, PYALEXNET_TARGET_CUDA or PYALEXNET_TARGET_PTX"
#endif

// The value, which nvcc would rather work out anew at each use where registers are few.
template <class Value>
PYALEXNET_INLINE Value kept_in_a_register(Value value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

}  // namespace pyalexnet
