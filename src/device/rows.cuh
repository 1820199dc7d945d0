// How a kernel shares out an array of rows: a block takes rows, its threads take the items of a row, so that
// what depends on the row alone is worked out once. The grid's x axis is over rows, its y axis over parts of
// long rows.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "device/elementwise.cuh"

namespace pyalexnet {

// The rows of [0, rows) that the calling thread's block handles.
__device__ inline ThreadShare block_share(int64_t rows) {
  return detail::share_of_worker(rows, blockIdx.x, gridDim.x);
}

// The items of a row, [0, items), that the calling thread handles.
__device__ inline ThreadShare row_share(int64_t items) {
  return detail::share_of_worker(items, int64_t{blockIdx.y} * blockDim.x + threadIdx.x,
                                 int64_t{gridDim.y} * blockDim.x);
}

// Calls body.template operator()<N>(i) for runs of N elements that together cover a row's [0, columns):
// vectors where `vectors` says that all rows start at aligned addresses (see vectors_aligned), single elements
// elsewhere.
template <class Body>
__device__ inline void for_each_row_vector(int64_t columns, bool vectors, Body body) {
  const int64_t whole = vectors ? columns / kVectorFloats : 0;
  const ThreadShare mine = row_share(whole);
  for (int64_t v = mine.begin; v < mine.end; v += mine.step) {
    body.template operator()<kVectorFloats>(v * kVectorFloats);
  }
  const int64_t tail = whole * kVectorFloats;
  const ThreadShare rest = row_share(columns - tail);
  for (int64_t i = rest.begin; i < rest.end; i += rest.step) body.template operator()<1>(tail + i);
}

// Calls body.template operator()<N>(row, i) for the runs of all rows that the calling thread handles.
template <class Body>
__device__ inline void for_each_vector_of_rows(int64_t rows, int64_t columns, bool vectors, Body body) {
  const ThreadShare mine = block_share(rows);
  for (int64_t row = mine.begin; row < mine.end; row += mine.step) {
    for_each_row_vector(columns, vectors, [&]<int N>(int64_t i) { body.template operator()<N>(row, i); });
  }
}

// Neighbouring vectors of a row, or tiles of an image's rows, that one thread takes where it can keep for the next what it
// computed for the last. A GPU computes it again, hides that behind its memory, and has the threads.
inline constexpr int kVectorsPerThread = kRunsOnCores ? 16 : 1;
inline constexpr int kTilesPerThread = kRunsOnCores ? 4 : 1;

// How many of those that are left a thread takes that takes `Most` of them; known to the compiler where that is one.
template <int Most>
__device__ inline int at_most(int64_t left) {
  return Most == 1 ? 1 : static_cast<int>(smaller(left, Most));
}

// At most so many threads of a GPU take a row, in each of its parts.
inline constexpr int kMostRowThreads = 256;

// Blocks and threads for a kernel whose blocks take rows from block_share() and whose threads take the row's
// items from row_share(). `bytes_per_item` is what one item moves.
inline Launch share_out_rows(const char* kernel_name, int64_t rows, int64_t items, int64_t bytes_per_item,
                             cudaStream_t stream) {
  if constexpr (kRunsOnCores) {
    constexpr int64_t kBytesPerBlock = 64 * 1024, kMaxBlocks = 1024;
    const int64_t blocks = std::clamp<int64_t>(rows * items * bytes_per_item / kBytesPerBlock, 1, kMaxBlocks);
    const int64_t over_rows = std::min(rows, blocks);
    return {kernel_name, dim3(static_cast<unsigned>(over_rows), static_cast<unsigned>(blocks / over_rows)), dim3(1),
            stream};
  } else {
    constexpr int64_t kWarp = 32, kMaxRows = 65536, kMaxParts = 1024;
    const int64_t parts = ceil_div(items, kMostRowThreads);
    const int64_t threads = ceil_div(ceil_div(items, parts), kWarp) * kWarp;  // the same for each part
    return {kernel_name,
            dim3(static_cast<unsigned>(std::min(rows, kMaxRows)), static_cast<unsigned>(std::min(parts, kMaxParts))),
            dim3(static_cast<unsigned>(threads)), stream};
  }
}

// The distance between an array's rows, in elements, and what a message calls it.
struct Pitch {
  const char* name;
  int64_t value;
};

// Throws std::invalid_argument unless there are rows and columns, and every pitch reaches over the columns.
inline void check_rows(int64_t rows, int64_t columns, std::initializer_list<Pitch> pitches = {}) {
  require(rows >= 1, "rows is ", rows, "; it must be at least 1");
  require(columns >= 1, "columns is ", columns, "; it must be at least 1");
  for (const Pitch& pitch : pitches) {
    require(pitch.value >= columns, pitch.name, " is ", pitch.value, "; it must be at least the ", columns, " columns");
  }
}

struct Split {
  int64_t quotient, remainder;
};

// index / divisor with the remainder. Both are nearly always small, and 64-bit division is slow on every
// target.
__device__ inline Split split(int64_t index, int64_t divisor) {
  if (((index | divisor) >> 32) == 0) {
    const uint32_t quotient = static_cast<uint32_t>(index) / static_cast<uint32_t>(divisor);
    return {quotient, static_cast<uint32_t>(index) - quotient * static_cast<uint32_t>(divisor)};
  }
  return {index / divisor, index % divisor};
}

}  // namespace pyalexnet
