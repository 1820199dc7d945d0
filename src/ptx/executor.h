// Runs the blocks of a kernel, warp after warp, 32 lanes at a time.
//
// The lanes of a warp that stand at the same instruction are a group and go on together. Of several groups, the one
// that is least far in the program goes first, so that lanes that parted at a branch meet again behind it. A group
// that reaches a barrier or a shuffle is parked there until all those have come that it waits for; when every group
// is parked and none is complete, they wait for each other for ever, and the block fails.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "hostcuda.h"
#include "ptx/program.h"
#include "ptx/shadow.h"
#include "ptx/traffic.h"

namespace ptx {

// What a kernel did wrong; the text names kernel, line, block and thread.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Launch {
  std::shared_ptr<const Program> program;
  dim3 grid, block;
  std::size_t dynamic_shared_bytes;
  std::vector<std::byte> parameters;
  std::shared_ptr<Traffic> traffic;  // null where it is not counted

  unsigned threads() const { return block.x * block.y * block.z; }
  std::size_t shared_bytes() const { return program->shared_bytes + dynamic_shared_bytes; }
};

// Who has accessed a word of shared memory last, and when. Times grow at each barrier and from block to block.
class SharedAccess {
 public:
  SharedAccess() = default;
  SharedAccess(std::uint64_t time, std::uint64_t thread) : bits_(time << kThreadBits | thread) {}

  std::uint64_t time() const { return bits_ >> kThreadBits; }
  std::uint64_t thread() const { return bits_ & kSeveralThreads; }
  // One that stands for this one and an earlier one.
  SharedAccess together_with(SharedAccess before) const {
    return before.time() == time() && before.bits_ != bits_ ? SharedAccess(time(), kSeveralThreads) : *this;
  }

  static constexpr std::uint64_t kSeveralThreads = 0xffff;

 private:
  static constexpr unsigned kThreadBits = 16;

  std::uint64_t bits_ = 0;
};

// What the warps of the running block share.
struct BlockState {
  const Launch* launch;
  std::uint64_t launch_number, rank;
  unsigned barriers;               // that the block has passed
  std::uint64_t time, started_at;  // of shared memory
  std::byte* shared;
  std::vector<SharedAccess> shared_writers, shared_readers;  // of each word
  RegionCache regions;
};

// A lane's copies that it has not waited for (cp.async).
struct AsyncCopies {
  struct Copy {
    const Instruction* instruction;
    std::uint64_t to, from;
    std::uint32_t bytes_read;
    unsigned group;
  };
  std::vector<Copy> asked_for;
  unsigned closed_groups = 0;
};

class Warp {
 public:
  template <class T>
  T* lanes(Slot slot) {
    return reinterpret_cast<T*>(registers + slot);
  }
  Mask& predicate(Slot slot) { return predicates[slot]; }

  [[noreturn]] void fail(int lane, const std::string& what) const;

  // Runs until all lanes that are left wait at a barrier, or none is left. Throws Fault.
  enum class State { ready, at_barrier, finished };
  State run();

  // Anew for the next block.
  void start(unsigned lanes_in_use);

  BlockState* block;
  unsigned index;  // in the block
  std::byte* registers;
  Mask* predicates;
  std::byte* local;
  const Instruction* current = nullptr;
  int barrier = -1;  // where it waits
  State state = State::ready;
  std::uint64_t executed = 0;  // instructions of this block
  std::array<AsyncCopies, kLanes> copies;

 private:
  struct Group {
    int at;
    Mask lanes;
  };

  static void add(std::vector<Group>& groups, Group group);
  Group take_first();
  bool join(Group& group);
  bool run_group(Group group);
  bool park_at_barrier(Group group);
  bool park_at_shuffle(Group& group);
  bool park_at_matrix_product(Group& group);
  bool park_for(Group& group, Mask wanted);
  bool leave_parking();
  [[noreturn]] void fail_stuck();

  Mask live_ = 0;
  std::vector<Group> ready_, parked_;
};

// One for each core.
class Executor {
 public:
  static Executor& of_thread();

  // Runs the block; what goes wrong comes back as text.
  std::optional<std::string> run(const Launch& launch, const hostcuda::BlockPlace& place);

 private:
  void prepare(const Launch& launch);
  void fill_registers(const Launch& launch, Warp& warp);
  void start_block(const Launch& launch, const hostcuda::BlockPlace& place);
  void run_warps(const std::vector<unsigned>& order);

  std::uint64_t prepared_ = 0;  // the number of the launch
  BlockState state_{};
  std::vector<Warp> warps_;
  struct Release {
    void operator()(std::byte* memory) const;
  };
  using Memory = std::unique_ptr<std::byte[], Release>;
  static Memory take(std::size_t bytes);
  Memory registers_, local_, shared_;
  std::vector<Mask> predicates_;
};

// Whether fma rounds once, as PTX says, or twice, as code for processors without such an instruction does.
void set_fused(bool fused);
bool fused();

// "(1, 0, 0)" of a rank in that shape.
std::string coordinates(std::uint64_t rank, dim3 shape);

}  // namespace ptx
