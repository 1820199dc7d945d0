// What only those need who look for mistakes in a program: memory that notices wrong accesses, calls that fail, and how
// often each kernel was launched.
#pragma once

#include "cuda_runtime.h"

#include <cstdint>
#include <map>
#include <string>

namespace hostcuda {

// Lets each allocation end where nobody may touch memory, and looks at what lies beside it after each kernel. A kernel
// that has touched what is not its own fails, as it does by an exception. Before the first CUDA call, or
// cudaErrorSetOnActiveProcess.
cudaError_t guard_memory();

// Lets the `number`-th call of its kind fail, counted from now on and over all devices and threads; 0: none. An
// allocation, of a device or pinned, finds no memory; a copy fails as a kernel does, when it is its turn.
enum class Call { allocation, copy };
cudaError_t fail_call(Call call, std::uint64_t number);

// By the kernel's name: how often it was queued since the process began.
std::map<std::string, std::uint64_t> launch_counts();

}  // namespace hostcuda
