// Launching a kernel from PTX text, for tests of the interpreter itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hostcuda.h"

namespace ptx {

// The arguments are whole numbers or addresses; each parameter takes the lower bytes of its argument. Asynchronous.
// Returns cudaErrorInvalidDeviceFunction where the text is not understood or has no such kernel.
cudaError_t launch_text(const std::string& text, const std::string& kernel, dim3 grid, dim3 block,
                        std::size_t dynamic_shared_bytes, cudaStream_t stream,
                        const std::vector<std::uint64_t>& arguments);

}  // namespace ptx
