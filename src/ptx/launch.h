// What the kernels here are executed as; launching one from PTX text, and what of them is not known, for tests of the
// interpreter itself.
#pragma once

#include <string>
#include <vector>

#include "hostcuda.h"

namespace ptx {

// The compute capabilities for which this module has PTX, ascending; 75 is 7.5.
std::vector<int> architectures();

// The one whose PTX is executed. It must be among them, and set before any launch.
int architecture();
void set_architecture(int architecture);

// Each parameter takes the first bytes of its argument. Asynchronous. Returns cudaErrorInvalidDeviceFunction where the
// text is not understood or has no such kernel, and where the arguments are not those that it takes.
cudaError_t launch_text(const std::string& text, const std::string& kernel, dim3 grid, dim3 block,
                        std::size_t dynamic_shared_bytes, cudaStream_t stream,
                        const std::vector<std::string>& arguments);

// Those of all kernels in this module, as problems_of() tells them. Throws std::runtime_error where a kernel cannot be
// understood at all.
std::vector<std::string> unknown_instructions();

}  // namespace ptx
