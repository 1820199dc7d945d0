// How much memory traffic kernels make, what warps ask for and in how many pieces memory delivers it, and how many
// instructions they execute.
//
// Global memory moves in sectors of 32 bytes: an access of a warp moves each sector that a lane of it touches, once.
// Ideal is what its lanes want, a byte that several want counted once, in full sectors.
//
// Shared memory has 32 banks; word w lies in bank w mod 32. A wavefront delivers one word of each bank, to all lanes
// that want it. An access of a warp is served as a whole, or in halves where it is of 16 bytes a lane, and takes as many
// wavefronts as it wants different words of one bank: the most of any bank. Ideal is as many as its words fill.
//
// By these rules the counters of an H100 came out for all kernels of tests/ptx/traffic.cu. Earlier chips are said to serve
// 16 bytes a lane by quarters of a warp, and to join two of these in some cases.
//
// Caches are not part of this: what two accesses move counts twice, as at the L1 cache's door. Local memory and
// parameters are not counted.
//
// An instruction counts once for the lanes of a warp that execute it together, also where its guard is false in all of
// them. These are PTX's: a GPU takes several for some, such as a division, and one for some pairs.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ptx/program.h"

namespace ptx {

enum class Way : std::uint8_t { global_load, global_store, shared_load, shared_store };
inline constexpr std::size_t kWays = 4;

struct Tally {
  std::uint64_t accesses = 0;  // of warps
  std::uint64_t moved = 0;     // sectors or wavefronts
  std::uint64_t ideal = 0;
};

// Of one launch. Cores add to it side by side.
class Traffic {
 public:
  explicit Traffic(std::string kernel) : kernel(std::move(kernel)) {}

  // An access of that many bytes a lane.
  void add(Way way, const Addresses& addresses, Mask active, unsigned bytes);
  void add_instructions(std::uint64_t executed);
  Tally of(Way way) const;
  std::uint64_t instructions() const;

  const std::string kernel;

 private:
  struct Counters {
    std::atomic<std::uint64_t> accesses = 0, moved = 0, ideal = 0;
  };
  std::array<Counters, kWays> counters_;
  std::atomic<std::uint64_t> instructions_ = 0;
};

// Whether launches from now on are counted.
void count_traffic(bool on);

// Where a launch is to count; null where it is not.
std::shared_ptr<Traffic> traffic_of_launch(const std::string& kernel);

// Of the launches that were counted since the last call, in their order. What they did is whole once they are done.
std::vector<std::shared_ptr<const Traffic>> take_traffic();

}  // namespace ptx
