#include "ptx/executor.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "permutation.h"
#include "ptx/operations.h"

namespace ptx {

namespace {

constexpr std::size_t kAlignment = 128;
constexpr std::byte kUnwritten{0xff};  // NaNs, as hostcuda fills memory

std::atomic<bool> fma_is_fused = true;

std::size_t round_up(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

void set_fused(bool fused) {
  fma_is_fused.store(fused, std::memory_order_relaxed);
}
bool fused() {
  return fma_is_fused.load(std::memory_order_relaxed);
}

std::string coordinates(std::uint64_t rank, dim3 shape) {
  return "(" + std::to_string(rank % shape.x) + ", " + std::to_string(rank / shape.x % shape.y) + ", " +
         std::to_string(rank / shape.x / shape.y) + ")";
}

// ---- a warp ----

void Warp::fail(int lane, const std::string& what) const {
  const Launch& launch = *block->launch;
  const Program& program = *launch.program;
  std::string text = program.name + ": block " + coordinates(block->rank, launch.grid) + ", thread " +
                     coordinates(index * kLanes + static_cast<unsigned>(lane), launch.block) + ": " + what;
  if (const Statement* statement = current ? current->statement : nullptr) {
    text += ", in PTX line " + std::to_string(statement->line) + " `" + statement->text + "`";
    const auto file = program.module->file_names.find(statement->place.file);
    if (file != program.module->file_names.end()) {
      text += ", " + file->second + ":" + std::to_string(statement->place.line);
    }
  }
  throw Fault(text);
}

void Warp::start(unsigned lanes_in_use) {
  live_ = lanes_in_use >= kLanes ? kAllLanes : (Mask{1} << lanes_in_use) - 1;
  ready_.assign(1, {0, live_});
  parked_.clear();
  current = nullptr;
  state = State::ready;
  executed = 0;
  for (AsyncCopies& lane : copies) lane.asked_for.clear(), lane.closed_groups = 0;
}

Warp::State Warp::run() {
  while (true) {
    if (ready_.empty()) {
      if (live_ == 0) return state = State::finished;
      if (leave_parking()) return state = State::at_barrier;
      continue;
    }
    if (run_group(take_first())) return state = State::at_barrier;
  }
}

// Groups that were parked are complete once those have returned that they waited for. True: at a barrier.
bool Warp::leave_parking() {
  const std::vector<Instruction>& code = block->launch->program->code;
  for (const Group group : parked_) {
    if (group.lanes != live_) continue;
    parked_.clear();
    const bool is_barrier = code[static_cast<std::size_t>(group.at)].flow == Flow::barrier;
    if (is_barrier) barrier = group.at;
    ready_.push_back({group.at + is_barrier, group.lanes});
    return is_barrier;
  }
  fail_stuck();
}

void Warp::fail_stuck() {
  const Group first = parked_.front();
  current = &block->launch->program->code[static_cast<std::size_t>(first.at)];
  const char* const missing =
      current->flow == Flow::barrier   ? "divergent barrier: other threads of the warp never come here"
      : current->flow == Flow::shuffle ? "lanes that the shuffle's mask names never come here"
                                       : "other lanes of the warp never come to this product of matrices";
  fail(std::countr_zero(first.lanes), missing);
}

void Warp::add(std::vector<Group>& groups, Group group) {
  const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.at == group.at; });
  if (same == groups.end()) {
    groups.push_back(group);
  } else {
    same->lanes |= group.lanes;
  }
}

Warp::Group Warp::take_first() {
  const auto first =
      std::min_element(ready_.begin(), ready_.end(), [](const Group& a, const Group& b) { return a.at < b.at; });
  const Group group = *first;
  ready_.erase(first);
  return group;
}

// Takes in the lanes that wait at the same place. False if a group that is less far has to go first.
bool Warp::join(Group& group) {
  bool is_first = true;
  std::erase_if(ready_, [&](const Group& other) {
    is_first = is_first && other.at >= group.at;
    if (other.at != group.at) return false;
    group.lanes |= other.lanes;
    return true;
  });
  return is_first;
}

// Runs the group until it parts, meets others, is parked or has returned. True: all live lanes are at a barrier.
bool Warp::run_group(Group group) {
  const std::vector<Instruction>& code = block->launch->program->code;
  bool has_jumped = false;
  while (true) {
    const Instruction& instruction = code[static_cast<std::size_t>(group.at)];
    if ((has_jumped || instruction.is_target) && !ready_.empty() && !join(group)) {
      add(ready_, group);
      return false;
    }
    has_jumped = false;
    current = &instruction;
    ++executed;
    Mask active = group.lanes;
    if (instruction.guard != kNoSlot) {
      const Mask guard = predicates[instruction.guard];
      active &= instruction.guard_inverted ? ~guard : guard;
    }
    switch (instruction.flow) {
      case Flow::next:
        if (active != 0) instruction.operation(*this, instruction, active);
        ++group.at;
        break;
      case Flow::branch:
        if (active != 0 && active != group.lanes) {
          add(ready_, {instruction.target, active});
          add(ready_, {group.at + 1, group.lanes & ~active});
          return false;
        }
        group.at = active == 0 ? group.at + 1 : instruction.target;
        has_jumped = true;
        break;
      case Flow::leave:
        live_ &= ~active;
        group.lanes &= ~active;
        if (group.lanes == 0) return false;
        ++group.at;
        break;
      case Flow::barrier:
        if (active != group.lanes)
          fail(std::countr_zero(group.lanes & ~active), "divergent barrier: its guard is false");
        return park_at_barrier(group);
      case Flow::shuffle:
        group.lanes = active;
        if (!park_at_shuffle(group)) return false;
        shuffle(*this, instruction, group.lanes);
        ++group.at;
        break;
      case Flow::matrix_product:
        if (active != group.lanes) {
          fail(std::countr_zero(group.lanes & ~active), "a product of matrices under a guard that is false");
        }
        if (!park_at_matrix_product(group)) return false;
        multiply_matrices(*this, instruction);
        ++group.at;
        break;
    }
  }
}

bool Warp::park_at_barrier(Group group) {
  if (group.lanes == live_) {
    barrier = group.at;
    ready_.push_back({group.at + 1, group.lanes});
    return true;
  }
  add(parked_, group);
  return false;
}

// Whether the group, together with those parked here, has all lanes that its mask names.
bool Warp::park_at_shuffle(Group& group) {
  const Mask wanted = lanes<Mask>(current->from[3])[std::countr_zero(group.lanes)];
  if ((wanted & ~live_) != 0) {
    fail(std::countr_zero(group.lanes), "bad shuffle mask: lane " + std::to_string(std::countr_zero(wanted & ~live_)) +
                                            " does not exist or has returned");
  }
  if ((group.lanes & ~wanted) != 0) {
    fail(std::countr_zero(group.lanes & ~wanted), "bad shuffle mask: the calling lane is not in it");
  }
  return park_for(group, wanted);
}

// Whether the group, together with those parked here, is the whole warp.
bool Warp::park_at_matrix_product(Group& group) {
  if (live_ != kAllLanes) {
    fail(std::countr_zero(group.lanes), "a product of matrices in a warp of which lane " +
                                            std::to_string(std::countr_zero(~live_)) +
                                            " does not exist or has returned");
  }
  return park_for(group, kAllLanes);
}

// Takes in the lanes parked here; parks the group unless it has all that are wanted.
bool Warp::park_for(Group& group, Mask wanted) {
  const auto parked = std::find_if(parked_.begin(), parked_.end(), [&](const Group& g) { return g.at == group.at; });
  if (parked != parked_.end()) {
    group.lanes |= parked->lanes;
    parked_.erase(parked);
  }
  if (group.lanes == wanted) return true;
  parked_.push_back(group);
  return false;
}

// ---- a block ----

Executor& Executor::of_thread() {
  static thread_local Executor executor;
  return executor;
}

void Executor::Release::operator()(std::byte* memory) const {
  std::free(memory);
}

Executor::Memory Executor::take(std::size_t bytes) {
  const std::size_t size = round_up(std::max<std::size_t>(bytes, 1));
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, size));
  if (!memory) throw std::bad_alloc();
  std::fill_n(memory, size, kUnwritten);
  return Memory(memory);
}

std::optional<std::string> Executor::run(const Launch& launch, const hostcuda::BlockPlace& place) {
  try {
    if (prepared_ != place.launch) prepare(launch);
    prepared_ = place.launch;
    start_block(launch, place);
    std::vector<unsigned> order(warps_.size());
    const hostcuda::Permutation permutation(place.schedule.threads, order.size(), place.schedule.seed + place.rank);
    for (std::size_t position = 0; position < order.size(); ++position) {
      order[position] = static_cast<unsigned>(permutation(position));
    }
    run_warps(order);
    if (launch.traffic) {
      for (const Warp& warp : warps_) launch.traffic->add_instructions(warp.executed);
    }
  } catch (const Fault& fault) {
    return fault.what();
  }
  return std::nullopt;
}

void Executor::prepare(const Launch& launch) {
  const Program& program = *launch.program;
  const unsigned threads = launch.threads(), warps = (threads + kLanes - 1) / kLanes;
  const std::size_t stride = round_up(program.register_bytes);
  registers_ = take(stride * warps);
  local_ = take(std::size_t{program.local_bytes} * kLanes * warps);
  shared_ = take(launch.shared_bytes());
  predicates_.assign(std::size_t{program.predicates} * warps, 0);
  state_.shared = shared_.get();
  state_.shared_writers.assign(launch.shared_bytes() / kWordBytes + 4, {});
  state_.shared_readers.assign(launch.shared_bytes() / kWordBytes + 4, {});
  state_.time = 0;
  warps_.assign(warps, {});
  for (unsigned index = 0; index < warps; ++index) {
    Warp& warp = warps_[index];
    warp.block = &state_;
    warp.index = index;
    warp.registers = registers_.get() + stride * index;
    warp.predicates = predicates_.data() + std::size_t{program.predicates} * index;
    warp.local = local_.get() + std::size_t{program.local_bytes} * kLanes * index;
    fill_registers(launch, warp);
  }
}

// What stays the same from block to block.
void Executor::fill_registers(const Launch& launch, Warp& warp) {
  const Program& program = *launch.program;
  for (const Constant& constant : program.constants) {
    if (constant.bytes == 8) {
      std::fill_n(warp.lanes<std::uint64_t>(constant.slot), kLanes, constant.value);
    } else {
      std::fill_n(warp.lanes<std::uint32_t>(constant.slot), kLanes, static_cast<std::uint32_t>(constant.value));
    }
  }
  const dim3 block = launch.block, grid = launch.grid;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned thread = warp.index * kLanes + lane;
    const auto set = [&](Special special, unsigned value) {
      const Slot slot = program.specials[special];
      if (slot != kNoSlot) warp.lanes<std::uint32_t>(slot)[lane] = value;
    };
    set(kTidX, thread % block.x), set(kTidY, thread / block.x % block.y), set(kTidZ, thread / block.x / block.y);
    set(kNtidX, block.x), set(kNtidY, block.y), set(kNtidZ, block.z);
    set(kNctaidX, grid.x), set(kNctaidY, grid.y), set(kNctaidZ, grid.z);
    set(kLaneId, lane);
  }
}

void Executor::start_block(const Launch& launch, const hostcuda::BlockPlace& place) {
  const Program& program = *launch.program;
  const dim3 grid = launch.grid;
  const std::uint64_t rank = place.rank;
  state_.launch = &launch;
  state_.launch_number = place.launch;
  state_.rank = rank;
  state_.barriers = 0;
  state_.started_at = ++state_.time;
  state_.regions.refresh();
  std::fill_n(state_.shared, launch.shared_bytes(), kUnwritten);
  const std::uint64_t index[] = {rank % grid.x, rank / grid.x % grid.y, rank / grid.x / grid.y};
  for (Warp& warp : warps_) {
    for (int axis = 0; axis < 3; ++axis) {
      const Slot slot = program.specials[static_cast<std::size_t>(kCtaidX + axis)];
      if (slot != kNoSlot) {
        std::fill_n(warp.lanes<std::uint32_t>(slot), kLanes, static_cast<std::uint32_t>(index[axis]));
      }
    }
    warp.start(launch.threads() - warp.index * kLanes);
  }
}

void Executor::run_warps(const std::vector<unsigned>& order) {
  while (true) {
    const Warp* waiting = nullptr;
    for (const unsigned index : order) {
      Warp& warp = warps_[index];
      if (warp.state == Warp::State::finished || warp.run() == Warp::State::finished) continue;
      if (waiting && waiting->barrier != warp.barrier) {
        warp.current = &state_.launch->program->code[static_cast<std::size_t>(warp.barrier)];
        warp.fail(0, "divergent barrier: other warps of the block wait at another one");
      }
      waiting = &warp;
    }
    if (!waiting) return;
    ++state_.barriers;
    ++state_.time;
  }
}

}  // namespace ptx
