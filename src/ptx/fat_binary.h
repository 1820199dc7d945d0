// What nvcc hands to __cudaRegisterFatBinary: an array of code for several chips, as machine code or as PTX.
#pragma once

#include <map>
#include <string_view>

namespace ptx {

// The PTX in it, a text a compute capability, which is 75 for 7.5. Throws std::runtime_error where there is none, or some
// that cannot be read.
std::map<int, std::string_view> ptx_of(const void* fat_binary);

}  // namespace ptx
