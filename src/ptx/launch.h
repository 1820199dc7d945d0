// Launching a kernel from PTX text, and what of the kernels here is not known, for tests of the interpreter itself.
#pragma once

#include <string>
#include <vector>

#include "hostcuda.h"

namespace ptx {

// Each parameter takes the first bytes of its argument. Asynchronous. Returns cudaErrorInvalidDeviceFunction where the
// text is not understood or has no such kernel, and where the arguments are not those that it takes.
cudaError_t launch_text(const std::string& text, const std::string& kernel, dim3 grid, dim3 block,
                        std::size_t dynamic_shared_bytes, cudaStream_t stream,
                        const std::vector<std::string>& arguments);

// Those of all kernels in this module, as problems_of() tells them. Throws std::runtime_error where a kernel cannot be
// understood at all.
std::vector<std::string> unknown_instructions();

}  // namespace ptx
