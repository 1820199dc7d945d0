// Stacks that a core switches between: one for each thread of a block that has to wait.
#pragma once

#include <cstddef>

namespace hostcuda {

// Saves the caller's registers on its stack and that stack's pointer in *from, then goes on where `to` was saved.
extern "C" void hostcuda_switch_stack(void** from, void* to);

// The pointer that makes hostcuda_switch_stack call entry() on an empty stack that ends at `top` (aligned to 64).
// entry() must not return.
void* empty_stack(std::byte* top, void (*entry)());

}  // namespace hostcuda
