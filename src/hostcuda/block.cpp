// How a block runs: its memory, the life of its fibers, barriers, warp operations, and failures, in this order.
#include "block.h"

#include "denormals.h"
#include "fiber.h"
#include "race_check.h"
#include "runtime.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

namespace hostcuda {

namespace {

// The arena: the Block, the stacks, the dynamic shared memory. Pages are only taken when they are first touched.
constexpr std::size_t kStacksOffset = std::size_t{1} << 20;
constexpr std::size_t kSharedOffset = kArenaBytes - kMaxDynamicShared;

// A stack of 64 KiB, then room below it that takes what runs over, until check_stacks() finds the canary dead.
// Two neighbouring stacks end 43 cache lines (about two thirds of a page) apart in their pages: the hot ends of many
// stacks do not meet in the same sets of the caches, and what one thread reloads after a barrier has not the same
// offset in its page as what the two threads before it have just spilled, which processors mistake for a dependency.
constexpr std::size_t kStackBytes = 64 << 10;
constexpr std::size_t kOverrunBytes = 64 << 10;
constexpr std::size_t kStackSpacing = kStackBytes + kOverrunBytes + 43 * 64;
static_assert(kStacksOffset + kMaxThreads * kStackSpacing <= kSharedOffset);

constexpr std::uint64_t kLiveCanary = 0x5afe57acc0ffee11;

std::string hexadecimal(unsigned value) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) text += kDigits[value >> shift & 15];
  return text;
}

std::string coordinates(uint3 v) {
  return "(" + std::to_string(v.x) + ", " + std::to_string(v.y) + ", " + std::to_string(v.z) + ")";
}

uint3 unravel(std::uint64_t rank, dim3 shape) {
  if (rank < shape.x) return {static_cast<unsigned>(rank), 0, 0};
  const std::uint64_t row = rank / shape.x;
  return {static_cast<unsigned>(rank % shape.x), static_cast<unsigned>(row % shape.y),
          static_cast<unsigned>(row / shape.y)};
}

}  // namespace

Block& Block::create() {
  static_assert(sizeof(Block) <= kStacksOffset);
  // Twice the size holds an aligned arena wherever it lies; the rest is given back.
  void* mapped =
      mmap(nullptr, 2 * kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped);
  const std::uintptr_t arena = (begin + kArenaBytes - 1) & ~(kArenaBytes - 1);
  if (arena != begin) munmap(mapped, arena - begin);
  munmap(reinterpret_cast<void*>(arena + kArenaBytes), begin + kArenaBytes - arena);
  // Fewer pages to look up where the memory is in use all the time; a wish, so a refusal does not matter.
  madvise(reinterpret_cast<void*>(arena + kSharedOffset), kMaxDynamicShared, MADV_HUGEPAGE);
  return *new (reinterpret_cast<void*>(arena)) Block;
}

Block::Block() : fibers_(0), free_count_(0), race_threads_{}, barrier_round_(0) {
  context_.dynamic_shared = reinterpret_cast<std::byte*>(this) + kSharedOffset;
}

Block& Block::running() {
  return *reinterpret_cast<Block*>(stack_pointer() & ~(kArenaBytes - 1));
}

std::byte* Block::stack_top(unsigned fiber) {
  std::byte* stacks = reinterpret_cast<std::byte*>(this) + kStacksOffset;
  return stacks + (fiber + 1) * kStackSpacing;
}

address_check::Stack Block::stack_of(unsigned fiber) {
  constexpr std::size_t kBytes = kStackBytes + kOverrunBytes;
  return {stack_top(fiber) - kBytes, kBytes};
}

std::uint64_t& Block::canary(unsigned fiber) {
  return *reinterpret_cast<std::uint64_t*>(stack_top(fiber) - kStackBytes);
}

std::optional<Failure> Block::run(const Kernel& kernel, std::uint64_t position) {
  const std::uint64_t rank = kernel.block_order(position);
  kernel_ = &kernel;
  context_.block_index = unravel(rank, kernel.grid);
  context_.block_dim = kernel.block;
  context_.grid_dim = kernel.grid;
  if (std::exchange(copies_in_use_, false)) {
    for (Copies& copies : copies_) copies = {};
  }
  if (kernel.fill_shared) std::memset(context_.dynamic_shared, 0xff, kernel.dynamic_shared_bytes);

  threads_ = kernel.block.x * kernel.block.y * kernel.block.z;
  thread_order_ = Permutation(kernel.schedule.threads, threads_, kernel.schedule.seed + rank);
  started_ = finished_ = 0;
  ready_first_ = ready_count_ = 0;
  barrier_count_ = waiting_count_ = 0;
  for (unsigned first = 0; first < threads_; first += 32) {
    live_lanes_[first / 32] = ~0u >> (32 - std::min(32u, threads_ - first));
    warps_[first / 32].waiting_groups = 0;
  }

  void* const race_thread_of_core = race_check::current_thread();
  race_check::release(&block_started_);
  if (race_check::kEnabled) free_all_fibers();
  current_ = take_free_fiber();
  address_check::leave_for(stack_of(current_));
  hostcuda_switch_stack(&core_stack_pointer_, fiber_[current_].stack_pointer);
  address_check::arrive();
  if (failure_) finish_race_threads();
  race_check::switch_to(race_thread_of_core);
  race_check::acquire(&block_finished_);
  if (failure_) reset_fibers();
  return std::exchange(failure_, std::nullopt);
}

// ---- fibers ----

void Block::fiber_main() {
  Block& block = running();
  const address_check::Stack before = address_check::arrive();
  if (!block.core_stack_.bottom) block.core_stack_ = before;  // where a block's first fiber is entered from
  while (true) {
    block.run_threads();
    block.give_way();
  }
}

void Block::run_threads() {
  start_thread();
  try {
    kernel_->threads(*this);
  } catch (const std::exception& error) {
    failure_ = {cudaErrorLaunchFailure, where(true) + ": exception: " + error.what()};
  } catch (...) {
    failure_ = {cudaErrorLaunchFailure, where(true) + ": an exception that is no std::exception"};
  }
  if (failure_) leave_for_core();
}

// The current fiber has no thread any more. It comes back when it is taken to start threads again.
void Block::give_way() {
  // For the race checker a stack belongs to one thread, so it is not used again in the same block.
  if (!race_check::kEnabled) free_[free_count_++] = current_;
  if (ready_count_ > 0) {
    go_on_with(take_ready_fiber());
  } else if (started_ < threads_) {
    go_on_with(take_free_fiber());
  } else if (finished_ < threads_) {
    fail_stuck();
  } else {
    leave_for_core();
  }
}

void Block::start_thread() {
  const auto rank = static_cast<unsigned>(thread_order_(started_++));
  context_.thread = {unravel(rank, context_.block_dim), rank};
  if constexpr (race_check::kEnabled) {
    if (!race_threads_[rank]) race_threads_[rank] = race_check::new_thread();
    race_check::switch_to(race_threads_[rank]);
    race_check::acquire(&block_started_);
  }
}

bool Block::next_thread() {
  ++finished_;
  live_lanes_[context_.thread.rank / 32] &= ~(1u << context_.thread.rank % 32);
  race_check::release(&block_finished_);
  if (waiting_count_ > 0) release_if_last();
  if (ready_count_ > 0 || started_ == threads_ || race_check::kEnabled) return false;
  start_thread();
  return true;
}

// A thread that has returned counts as arrived, so others may have been waiting for nothing else.
void Block::release_if_last() {
  if (barrier_count_ > 0 && barrier_count_ + finished_ == threads_) release_barrier();
  const unsigned warp = context_.thread.rank / 32;
  for (unsigned group = 0; group < warps_[warp].waiting_groups;) {
    if (!complete(warp, group)) ++group;
  }
}

// The current thread waits; the core goes on with another one, which comes back here when this one is ready.
void Block::wait() {
  if (ready_count_ > 0) {
    go_on_with(take_ready_fiber());
  } else if (started_ < threads_) {
    go_on_with(take_free_fiber());
  } else {
    fail_stuck();
  }
}

void Block::go_on_with(FiberId next) {
  if (next == current_) return;
  Fiber& from = fiber_[current_];
  from.thread = context_.thread;
  current_ = next;
  context_.thread = fiber_[next].thread;
  address_check::leave_for(stack_of(next));
  hostcuda_switch_stack(&from.stack_pointer, fiber_[next].stack_pointer);
  address_check::arrive();
  race_check::switch_to(race_threads_[context_.thread.rank]);
}

void Block::leave_for_core() {
  address_check::leave_for(core_stack_);
  hostcuda_switch_stack(&fiber_[current_].stack_pointer, core_stack_pointer_);
  address_check::arrive();
}

Block::FiberId Block::take_ready_fiber() {
  const FiberId fiber = ready_[ready_first_];
  ready_first_ = (ready_first_ + 1) % kMaxThreads;
  --ready_count_;
  return fiber;
}

Block::FiberId Block::take_free_fiber() {
  if (free_count_ == 0) {
    const auto fiber = static_cast<FiberId>(fibers_++);
    fiber_[fiber].stack_pointer = empty_stack(stack_top(fiber), fiber_main);
    canary(fiber) = kLiveCanary;
    return fiber;
  }
  return free_[--free_count_];
}

void Block::free_all_fibers() {
  for (free_count_ = 0; free_count_ < fibers_; ++free_count_) {
    free_[free_count_] = static_cast<FiberId>(fibers_ - 1 - free_count_);
  }
}

// After a failure threads are still in the middle of the kernel: start all fibers anew.
void Block::reset_fibers() {
  for (unsigned fiber = 0; fiber < fibers_; ++fiber) {
    address_check::allow(stack_of(fiber).bottom, stack_of(fiber).bytes);  // the frames on it are gone
    fiber_[fiber].stack_pointer = empty_stack(stack_top(fiber), fiber_main);
    canary(fiber) = kLiveCanary;
  }
  free_all_fibers();
  for (void*& thread : race_threads_) {
    if (thread) race_check::end_thread(std::exchange(thread, nullptr));
  }
}

// Threads that a failure has stopped did not say that they have finished.
void Block::finish_race_threads() {
  for (void* thread : race_threads_) {
    if (!thread) continue;
    race_check::switch_to(thread);
    race_check::release(&block_finished_);
  }
}

// ---- barriers of the block ----

int Block::wait_at_barrier(BlockBarrier barrier, int predicate) {
  if (barrier_count_ == 0) {
    barrier_ = barrier;
    barrier_sum_ = 0;
  } else if (barrier != barrier_) {
    fail(cudaErrorLaunchFailure, "is at another kind of __syncthreads than the threads that wait for it");
  }
  barrier_waiting_[barrier_count_++] = current_;
  ++waiting_count_;
  barrier_sum_ += predicate;
  // Two points by turns: the first threads behind this barrier may arrive at the next one before the last have left.
  char* const meeting_point = &barrier_points_[barrier_round_ % 2];
  race_check::release(meeting_point);
  if (barrier_count_ + finished_ == threads_) release_barrier();
  wait();
  race_check::acquire(meeting_point);
  return barrier_result_;
}

// Everybody goes on, the last to arrive first: the registers that these threads spilled are still in the fastest
// cache. No fiber is ready before, since all are waiting here.
void Block::release_barrier() {
  switch (barrier_) {
    case BlockBarrier::sync:
      break;
    case BlockBarrier::count:
      barrier_result_ = barrier_sum_;
      break;
    case BlockBarrier::any:
      barrier_result_ = barrier_sum_ > 0;
      break;
    case BlockBarrier::all:
      barrier_result_ = barrier_sum_ == static_cast<int>(barrier_count_);
      break;
  }
  std::reverse_copy(barrier_waiting_.begin(), barrier_waiting_.begin() + barrier_count_, ready_.begin());
  ready_first_ = 0;
  ready_count_ = std::exchange(barrier_count_, 0);
  waiting_count_ = 0;
  ++barrier_round_;
}

// ---- warps ----

std::uint64_t Block::wait_in_warp(WarpOperation operation, unsigned mask, std::uint64_t value, unsigned source_lane) {
  const unsigned lane = context_.thread.rank % 32, warp_index = context_.thread.rank / 32;
  Warp& warp = warps_[warp_index];
  if (!(mask >> lane & 1)) {
    fail(cudaErrorLaunchFailure, "calls a warp operation with the mask " + hexadecimal(mask) +
                                     ", which does not name its own lane " + std::to_string(lane));
  }
  unsigned group = 0;
  while (group < warp.waiting_groups &&
         (warp.groups[group].mask != mask || warp.groups[group].operation != operation)) {
    ++group;
  }
  if (group == warp.waiting_groups) warp.groups[warp.waiting_groups++] = {mask, 0, operation};
  warp.groups[group].arrived |= 1u << lane;
  warp.fiber[lane] = current_;
  warp.value[lane] = value;
  warp.source[lane] = static_cast<std::uint8_t>(source_lane);
  ++waiting_count_;
  // Only __syncwarp orders memory; a shuffle or a vote does not.
  if (operation == WarpOperation::sync) race_check::release(&warp.arrival_points[lane]);
  complete(warp_index, group);
  wait();
  if (operation == WarpOperation::sync) race_check::acquire(&warp.departure_points[lane]);
  return warp.result[lane];
}

// If all live lanes of the group are here, computes what each gets and lets them go on, ahead of everything else.
// The results are computed now, since the first lane to go on may overwrite its value before the last one reads it.
bool Block::complete(unsigned warp_index, unsigned group) {
  Warp& warp = warps_[warp_index];
  const auto [mask, arrived, operation] = warp.groups[group];
  if (arrived != (mask & live_lanes_[warp_index])) return false;
  warp.groups[group] = warp.groups[--warp.waiting_groups];

  unsigned ballot = 0;
  if (operation == WarpOperation::ballot) {
    for (unsigned lanes = arrived; lanes != 0; lanes &= lanes - 1) {
      const int lane = std::countr_zero(lanes);
      ballot |= static_cast<unsigned>(warp.value[lane]) << lane;
    }
  }
  if (race_check::kEnabled && operation == WarpOperation::sync) meet(warp, arrived);
  const auto count = static_cast<unsigned>(std::popcount(arrived));
  ready_first_ = (ready_first_ + kMaxThreads - count) % kMaxThreads;
  ready_count_ += count;
  waiting_count_ -= count;
  unsigned slot = ready_first_;
  for (unsigned lanes = arrived; lanes != 0; lanes &= lanes - 1) {
    const int lane = std::countr_zero(lanes);
    const unsigned source = warp.source[lane];
    if (operation == WarpOperation::shuffle) {
      warp.result[lane] = arrived >> source & 1 ? warp.value[source] : ~std::uint64_t{0};
    } else {
      warp.result[lane] = ballot;
    }
    ready_[slot] = warp.fiber[lane];
    slot = (slot + 1) % kMaxThreads;
  }
  return true;
}

// For the race checker: what each of the lanes did so far comes before what any of them does next.
void Block::meet(Warp& warp, unsigned lanes) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (lanes >> lane & 1) race_check::acquire(&warp.arrival_points[lane]);
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (lanes >> lane & 1) race_check::release(&warp.departure_points[lane]);
  }
}

// ---- failures ----

void Block::fail(cudaError_t error, const std::string& what) {
  failure_ = {error, where(true) + " " + what};
  leave_for_core();
  __builtin_unreachable();
}

void Block::fail_stuck() {
  std::string detail = where(false) + ": its threads wait for each other for ever: ";
  detail += std::to_string(barrier_count_) + " at __syncthreads, ";
  for (unsigned first = 0; first < threads_; first += 32) {
    const Warp& warp = warps_[first / 32];
    for (unsigned i = 0; i < warp.waiting_groups; ++i) {
      const WarpGroup& group = warp.groups[i];
      detail += std::to_string(std::popcount(group.arrived)) + " of warp " + std::to_string(first / 32) +
                " at a warp operation with the mask " + hexadecimal(group.mask) + ", ";
    }
  }
  detail += std::to_string(finished_) + " of " + std::to_string(threads_) + " have returned";
  failure_ = {cudaErrorLaunchTimeout, detail};
  leave_for_core();
  __builtin_unreachable();
}

// ---- accesses to memory that is not there ----

namespace {

thread_local Block* block_of_thread = nullptr;
struct sigaction earlier_action;

// A kernel's access ends the kernel, on the stack that it happened on; all others go where they went before.
void on_illegal_access(int signal, siginfo_t* info, void* context) {
  if (block_of_thread && &Block::running() == block_of_thread) {
    flush_denormals_to_zero();  // signal handlers begin with the processor's usual arithmetic
    Runtime& all = runtime();
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    std::string place;
    {
      const std::lock_guard lock(all.mutex);
      place = all.place_beside_allocations(address);
    }
    block_of_thread->fail(cudaErrorLaunchFailure, "touches memory " + place);
  }
  if (earlier_action.sa_flags & SA_SIGINFO) {
    earlier_action.sa_sigaction(signal, info, context);
  } else if (earlier_action.sa_handler != SIG_DFL && earlier_action.sa_handler != SIG_IGN) {
    earlier_action.sa_handler(signal);
  } else {
    sigaction(SIGSEGV, &earlier_action, nullptr);  // the access is made again, and the process ends
  }
}

}  // namespace

void Block::catch_illegal_accesses() {
  static const bool installed = [] {
    struct sigaction action{};
    action.sa_sigaction = on_illegal_access;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    return sigaction(SIGSEGV, &action, &earlier_action) == 0;
  }();
  if (!installed) return;
  block_of_thread = this;
  sigset_t faults;
  sigemptyset(&faults);
  sigaddset(&faults, SIGSEGV);
  pthread_sigmask(SIG_UNBLOCK, &faults, nullptr);
}

std::optional<Failure> Block::check_stacks(const Kernel& kernel) {
  for (unsigned fiber = 0; fiber < fibers_; ++fiber) {
    if (canary(fiber) == kLiveCanary) continue;
    reset_fibers();
    return Failure{cudaErrorLaunchFailure, std::string("kernel ") + kernel.name +
                                               ": stack overflow: a thread needed more than " +
                                               std::to_string(kStackBytes >> 10) + " KiB"};
  }
  return std::nullopt;
}

std::string Block::where(bool with_thread) const {
  std::string text = std::string("kernel ") + kernel_->name + ", block " + coordinates(context_.block_index);
  if (with_thread) text += ", thread " + coordinates(context_.thread.index);
  return text;
}

// ---- asynchronous copies ----

void Block::ask_for_copy(const AsyncCopy& copy) {
  copies_in_use_ = true;
  copies_[context_.thread.rank].asked_for.push_back(copy);
}

void Block::close_copies() {
  copies_in_use_ = true;
  Copies& copies = copies_[context_.thread.rank];
  std::size_t closed = 0;
  for (const std::size_t count : copies.groups) closed += count;
  copies.groups.push_back(copies.asked_for.size() - closed);
}

bool Block::take_copy(AsyncCopy& copy, int groups) {
  Copies& copies = copies_[context_.thread.rank];
  while (copies.groups.size() > static_cast<std::size_t>(groups)) {
    const std::size_t count = copies.groups.front();
    if (copies.made < count) {
      copy = copies.asked_for[copies.made++];
      return true;
    }
    const auto end_of_group = copies.asked_for.begin() + static_cast<std::ptrdiff_t>(count);
    copies.asked_for.erase(copies.asked_for.begin(), end_of_group);
    copies.groups.erase(copies.groups.begin());
    copies.made = 0;
  }
  return false;
}

// ---- what kernels call ----

bool next_thread(Block& block) {
  return block.next_thread();
}

int block_barrier(BlockBarrier barrier, int predicate) {
  return Block::running().wait_at_barrier(barrier, predicate);
}

void warp_sync(unsigned mask) {
  Block::running().wait_in_warp(WarpOperation::sync, mask, 0, 0);
}

unsigned warp_ballot(unsigned mask, bool predicate) {
  return static_cast<unsigned>(Block::running().wait_in_warp(WarpOperation::ballot, mask, predicate, 0));
}

std::uint64_t warp_shuffle(unsigned mask, std::uint64_t bits, unsigned source_lane) {
  return Block::running().wait_in_warp(WarpOperation::shuffle, mask, bits, source_lane);
}

void copy_async(float* to, const float* from, int size, int floats) {
  Block::running().ask_for_copy({to, from, size, floats});
}

void close_copies() {
  Block::running().close_copies();
}

bool take_copy(AsyncCopy& copy, int groups) {
  return Block::running().take_copy(copy, groups);
}

void trap() {
  Block::running().fail(cudaErrorLaunchFailure, "called __trap()");
}

}  // namespace hostcuda
