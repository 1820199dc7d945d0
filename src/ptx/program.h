// A kernel as the interpreter executes it: instructions with their operands' places, one function for each.
//
// A warp has a register file in which each register takes one lane after the other: 32 words of 4 bytes, or of 8 for
// registers of 64 bits. Registers of 16 bits lie in words of 4, whose upper half nobody reads. Constants and special
// registers (%tid.x) are registers that are filled before the kernel starts. A predicate is a mask, one bit a lane.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "ptx/source.h"

namespace ptx {

inline constexpr int kLanes = 32;
using Mask = std::uint32_t;  // of lanes
inline constexpr Mask kAllLanes = ~Mask{0};
using Addresses = std::array<std::uint64_t, kLanes>;  // of a warp's access; those of inactive lanes mean nothing

class Warp;
struct Instruction;
using Operation = void (*)(Warp&, const Instruction&, Mask active);

enum class Flow : std::uint8_t { next, branch, leave, barrier, shuffle, matrix_product };
enum class Space : std::uint8_t { generic, global, shared, local, parameter };

// Where the spaces other than global begin in generic addresses; no host has memory there.
inline constexpr std::uint64_t kSharedWindow = std::uint64_t{1} << 56;
inline constexpr std::uint64_t kLocalWindow = std::uint64_t{1} << 57;
inline constexpr std::uint64_t kParameterWindow = std::uint64_t{1} << 58;

// The byte in the register file where a register begins, or the number of a predicate.
using Slot = std::uint32_t;
inline constexpr Slot kNoSlot = ~Slot{0};

// The operands of a product of matrices that the lanes of a warp hold together, each lane so many words of each.
struct MatrixProduct {
  bool bf16;  // two terms a word, else one of tf32
  std::array<Slot, 4> to, left;
  std::array<Slot, 2> right;
  std::array<Slot, 4> added;
};

// What a load or a store touches: `elements` values of `element_bytes`, side by side.
struct Access {
  Space space;
  std::uint8_t elements, element_bytes;
  bool is_signed;
  bool wide_base;                                // of 64 bits
  std::array<Slot, 4> values;                    // from or to
  std::array<std::uint8_t, 4> register_bytes{};  // of these
};

struct Instruction {
  Operation operation = nullptr;
  Flow flow = Flow::next;
  bool is_target = false;  // of a branch, so that lanes may meet here
  bool guard_inverted = false;
  Slot guard = kNoSlot;
  Slot to = kNoSlot, second_to = kNoSlot;
  std::array<Slot, 5> from{kNoSlot, kNoSlot, kNoSlot, kNoSlot, kNoSlot};
  int target = 0;           // of a branch
  std::int64_t offset = 0;  // of an address
  Access access{};
  MatrixProduct product{};
  const Statement* statement = nullptr;
  std::string problem;  // of one that cannot be executed
};

enum Special {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneId,
  kSpecials
};

struct Constant {
  Slot slot;
  unsigned bytes;  // 4 or 8
  std::uint64_t value;
};

struct Program {
  std::string name;  // as C++ writes it
  const Module* module = nullptr;
  std::vector<Instruction> code;
  unsigned register_bytes = 0, predicates = 0;
  std::vector<Constant> constants;
  std::array<Slot, kSpecials> specials;
  std::vector<unsigned> parameter_offsets, parameter_sizes;
  unsigned parameter_bytes = 0, shared_bytes = 0, local_bytes = 0;
  unsigned most_threads = 0;
};

// Both must outlive the program. Throws std::runtime_error for what cannot be understood at all; an instruction that
// is not known becomes one that fails, so that a kernel runs as far as it is known.
Program translate(const Module& module, const Function& kernel);

// "add.f32 %f1, %f2, %f3 in kernel: unknown instruction: ...", one for each instruction that fails.
std::vector<std::string> problems_of(const Program& program);

}  // namespace ptx
