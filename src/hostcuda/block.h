// The execution of one block on one core: its threads as fibers, its barriers, its warps.
//
// A thread that never waits costs one call: threads run one after the other on the same fiber. Only when a thread
// has to wait does the core take another fiber: first for threads that have become ready, then to start further
// threads. When a warp operation completes, its lanes go on before anything else, so a kernel that only shuffles
// keeps 32 fibers busy, whatever the size of the block.
//
// When no thread can go on although some have not returned, they wait for each other for ever, and the block fails.
// A failed block is left as it stands: the frames of its threads are dropped without running destructors.
#pragma once

#include "address_check.h"
#include "hostcuda.h"
#include "kernel_context.h"
#include "permutation.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace hostcuda {

inline constexpr unsigned kMaxThreads = 1024;
inline constexpr std::size_t kMaxDynamicShared = std::size_t{64} << 20;

struct Failure {
  cudaError_t error;
  std::string detail;
};

struct Kernel {
  const char* name;
  dim3 grid;
  dim3 block;
  std::size_t dynamic_shared_bytes;
  bool fill_shared;  // start each block with NaNs in its dynamic shared memory
  ThreadLoop threads;
  Schedule schedule;
  Permutation block_order;

  std::uint64_t blocks() const { return std::uint64_t{grid.x} * grid.y * grid.z; }
};

enum class WarpOperation : std::uint8_t { sync, ballot, shuffle };

// Lives at the start of a core's arena, where kernel_context() finds it.
class Block {
 public:
  // An arena with its Block, for one OS thread and as long as the process lives. Throws std::bad_alloc.
  static Block& create();

  // Executes the block at `position` of the kernel's schedule.
  std::optional<Failure> run(const Kernel& kernel, std::uint64_t position);

  // Where memory is guarded: lets the kernels of the calling OS thread, which are this block's, fail when they touch
  // what is not there.
  void catch_illegal_accesses();

  // Whether a stack has overflowed since the last call.
  std::optional<Failure> check_stacks(const Kernel& kernel);

  // The rest is for code on the block's own fibers.
  static Block& running();
  bool next_thread();
  int wait_at_barrier(BlockBarrier barrier, int predicate);
  std::uint64_t wait_in_warp(WarpOperation operation, unsigned mask, std::uint64_t value, unsigned source_lane);
  void ask_for_copy(const AsyncCopy& copy);
  void close_copies();
  bool take_copy(AsyncCopy& copy, int groups);
  [[noreturn]] void fail(cudaError_t error, const std::string& what);

 private:
  using FiberId = std::uint16_t;

  struct Fiber {
    void* stack_pointer;
    ThreadId thread;
  };

  // Lanes that arrived at the same operation with the same mask.
  struct WarpGroup {
    unsigned mask;
    unsigned arrived;
    WarpOperation operation;
  };

  struct Warp {
    unsigned waiting_groups;
    std::array<WarpGroup, 32> groups;
    std::array<FiberId, 32> fiber;
    std::array<std::uint8_t, 32> source;
    std::array<std::uint64_t, 32> value;
    std::array<std::uint64_t, 32> result;
    std::array<char, 32> arrival_points, departure_points;  // for the race checker, as addresses only
  };

  // A thread's asynchronous copies, and how many of them are in each closed group that it has not waited for.
  struct Copies {
    std::vector<AsyncCopy> asked_for;
    std::vector<std::size_t> groups;
    std::size_t made = 0;  // of the first group that is left
  };

  Block();
  static void fiber_main();
  void run_threads();
  void give_way();
  void start_thread();
  void release_if_last();
  void wait();
  void go_on_with(FiberId next);
  void leave_for_core();
  FiberId take_ready_fiber();
  FiberId take_free_fiber();
  void release_barrier();
  bool complete(unsigned warp, unsigned group);
  [[noreturn]] void fail_stuck();
  void free_all_fibers();
  void reset_fibers();
  void finish_race_threads();
  static void meet(Warp& warp, unsigned lanes);
  std::string where(bool with_thread) const;
  std::byte* stack_top(unsigned fiber);
  address_check::Stack stack_of(unsigned fiber);
  std::uint64_t& canary(unsigned fiber);

  KernelContext context_;  // must come first
  const Kernel* kernel_;
  Permutation thread_order_;
  unsigned threads_, started_, finished_;

  unsigned ready_first_, ready_count_;
  unsigned barrier_count_;
  unsigned waiting_count_;  // threads that wait at a barrier or at a warp operation
  BlockBarrier barrier_;
  int barrier_sum_, barrier_result_;

  FiberId current_;
  unsigned fibers_, free_count_;
  void* core_stack_pointer_;
  address_check::Stack core_stack_;
  std::optional<Failure> failure_;

  std::array<unsigned, kMaxThreads / 32> live_lanes_;  // of each warp
  std::array<FiberId, kMaxThreads> ready_;             // a ring
  std::array<FiberId, kMaxThreads> barrier_waiting_;
  std::array<FiberId, kMaxThreads> free_;
  std::array<Fiber, kMaxThreads> fiber_;
  std::array<Warp, kMaxThreads / 32> warps_;
  std::array<Copies, kMaxThreads> copies_;
  bool copies_in_use_ = false;  // by the running block: clearing them costs more than many a block

  // For the race checker: each thread as it knows it, and addresses to meet at.
  std::array<void*, kMaxThreads> race_threads_;
  char block_started_, block_finished_;
  std::array<char, 2> barrier_points_;
  unsigned barrier_round_;
};

}  // namespace hostcuda
