// What nvcc hands to __cudaRegisterFatBinary: an array of code for several chips, as machine code or as PTX.
#pragma once

#include <string>

namespace ptx {

// The PTX in it, as text. Throws std::runtime_error where there is none that can be read.
std::string ptx_of(const void* fat_binary);

}  // namespace ptx
