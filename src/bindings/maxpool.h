// Pooling as Python describes it.
#pragma once

#include <cstdint>
#include <vector>

#include "bindings/own_arguments.h"
#include "kernels/maxpool.cuh"

namespace pyalexnet {

using Shape = std::vector<int64_t>;

// Over an array of shape (images, height, width, channels); throws std::invalid_argument for others, and for windows that
// make no sense there.
MaxPool pool_over(const Shape& x, int64_t kernel, int64_t stride, int64_t padding);

// That of an operation's own arguments, one of which is the array.
MaxPool pool_over(const OwnArguments& own, const char* array);

Shape output_shape(const MaxPool& pool);

}  // namespace pyalexnet
