// What the running CUDA thread can ask of the core that executes its block (block.h).
//
// The core keeps the stacks of a block's threads in one aligned arena with this context at its start, so that the
// context is found from the stack pointer alone. A thread_local would be the plain way, but it is either slow (a
// call for each access from a shared library) or, in the fast TLS model, forces all of the library's
// thread-local storage, that is every __shared__ array, into the few hundred bytes that the loader keeps spare.
#pragma once

#include "vector_types.h"

#include <cstddef>
#include <cstdint>

namespace hostcuda {

// Which thread of the block is running. Moved as a whole, in one 16-byte register.
struct alignas(16) ThreadId {
  uint3 index;
  unsigned rank;  // in the block: x runs fastest
};

struct KernelContext {
  ThreadId thread;
  uint3 block_index;
  dim3 block_dim;
  dim3 grid_dim;
  void* dynamic_shared;
};

inline constexpr std::uintptr_t kArenaBytes = std::uintptr_t{256} << 20;

inline std::uintptr_t stack_pointer() {
  std::uintptr_t pointer;
#if defined(__x86_64__)
  asm("mov %%rsp, %0" : "=r"(pointer));
#elif defined(__aarch64__)
  asm("mov %0, sp" : "=r"(pointer));
#else
#error "hostcuda runs on x86-64 and on aarch64"
#endif
  return pointer;
}

// Only for code that runs inside a kernel.
inline const KernelContext& kernel_context() {
  return *reinterpret_cast<const KernelContext*>(stack_pointer() & ~(kArenaBytes - 1));
}

// The dynamic shared memory of the block: as many bytes as the launch asked for, aligned to 128.
// Its content is undefined when the block starts.
template <class T = unsigned char>
T* dynamic_shared() {
  return static_cast<T*>(kernel_context().dynamic_shared);
}

inline unsigned lane() {
  return kernel_context().thread.rank % 32;
}

enum class BlockBarrier { sync, count, any, all };

// Wait until every live thread of the block is here; returns the predicates' count, or whether any / all were 1.
int block_barrier(BlockBarrier barrier, int predicate);

// Wait until every live lane of `mask` is here.
void warp_sync(unsigned mask);
unsigned warp_ballot(unsigned mask, bool predicate);
std::uint64_t warp_shuffle(unsigned mask, std::uint64_t bits, unsigned source_lane);

// Asynchronous copies (cp.async): to[0..size) becomes `floats` of them from `from` and zeros behind. What a thread has asked
// for since it last closed a group is the next one. Copies are made as late as they may be, when the thread waits until
// all of its groups but the last `groups` are there.
struct AsyncCopy {
  float* to;
  const float* from;
  int size, floats;
};
void copy_async(float* to, const float* from, int size, int floats);
void close_copies();
bool take_copy(AsyncCopy& copy, int groups);  // the next one that such a wait makes; false: none is left
inline void wait_for_copies(int groups) {
  for (AsyncCopy copy; take_copy(copy, groups);) {
    for (int i = 0; i < copy.size; ++i) copy.to[i] = i < copy.floats ? copy.from[i] : 0.0f;
  }
}

[[noreturn]] void trap();

}  // namespace hostcuda
