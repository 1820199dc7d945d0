// What instructions do, for the 32 lanes of a warp.
#pragma once

#include <array>
#include <string>

#include "ptx/program.h"

namespace ptx {

// An instruction with operands in registers alone, by its full name: add.s32, setp.lt.ftz.f32, cvt.rn.f32.u32.
struct Form {
  Operation operation;
  // Bytes of the operands' types, 0 for predicates; the first one is the destination.
  std::array<int, 5> operand_bytes;
  int operands;
};

// The form of that name, or null where it is not known.
const Form* form_named(const std::string& name);

// Those that are no forms: the translator fills in what they need.
void load(Warp& warp, const Instruction& instruction, Mask active);
void store(Warp& warp, const Instruction& instruction, Mask active);
void pack(Warp& warp, const Instruction& instruction, Mask active);    // to <- {from[0], from[1]}
void unpack(Warp& warp, const Instruction& instruction, Mask active);  // {to, second_to} <- from[0]
void add_offset(Warp& warp, const Instruction& instruction, Mask active);
void fail_with_problem(Warp& warp, const Instruction& instruction, Mask active);
void trap(Warp& warp, const Instruction& instruction, Mask active);

// cp.async: to the shared address in from[0] from the global one in from[1], as many bytes as the access has; from[2] says
// how many of them are read, the others are zeros. It is done as late as it may be, by the wait for its group.
void ask_for_copy(Warp& warp, const Instruction& instruction, Mask active);
void close_copies(Warp& warp, const Instruction& instruction, Mask active);
void wait_for_copies(Warp& warp, const Instruction& instruction, Mask active);  // all but the last `offset` groups

enum class ShuffleMode { up, down, butterfly, index };
// from: values, lanes, clamps, masks; `offset` is the mode.
void shuffle(Warp& warp, const Instruction& instruction, Mask active);

// mma.sync of 16 x 8 sums and eight words of terms, by the whole warp.
void multiply_matrices(Warp& warp, const Instruction& instruction);

}  // namespace ptx
