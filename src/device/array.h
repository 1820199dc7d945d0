// Arrays at the border between Python and the kernels: typed, shaped, strided memory of one device.
//
// An Array never owns elements by itself: `owner` keeps alive whatever does (device memory of ours, a NumPy
// array, a DLPack capsule), so that slices and borrowed memory need no copies. Kernels get raw pointers only
// from the checked accessors here.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/check.h"

namespace pyalexnet {

enum class DType { float32, int32, uint8 };

int64_t item_bytes(DType dtype);
const char* dtype_name(DType dtype);
DType dtype_named(const std::string& name);  // throws std::invalid_argument for any other name

// The device number of arrays in ordinary host memory.
inline constexpr int kHost = -1;

struct Array {
  std::shared_ptr<void> owner;
  void* data = nullptr;
  DType dtype = DType::float32;
  int device = kHost;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in elements

  int64_t size() const;  // elements
  bool contiguous() const;

  // The elements [start, stop) of the last axis: the same memory, the same strides.
  Array slice_last(int64_t start, int64_t stop) const;

  // The array as rows of its last axis at one distance from each other: rows × columns, `pitch` elements from
  // one row to the next. Throws std::invalid_argument naming the argument `name` when there is no such pitch.
  struct Rows {
    int64_t rows, columns, pitch;
  };
  Rows rows(const char* name) const;
};

// Device memory from cudaMalloc, freed when the last Array that lies in it goes.
class Memory {
 public:
  // Throws OutOfMemory when the device's limit is met.
  Memory(int device, int64_t bytes);

  // Contiguous, or with the given strides (in elements); `offset_bytes` from the start. Throws
  // std::invalid_argument unless all of it lies inside.
  Array array(int64_t offset_bytes, std::vector<int64_t> shape, DType dtype, std::vector<int64_t> strides = {}) const;

  const int device;
  const int64_t bytes;

 private:
  std::shared_ptr<void> start;
};

// Page-locked host memory, which any device copies from and to at full speed and while it computes. Freed with its last
// reference, by when no copy may be under way. Throws CudaError where there is not enough.
std::shared_ptr<void> pinned_memory(int64_t bytes);

// Arrays of one shape as equally many rows: of the last axis, or one long row where all are contiguous.
struct NamedArray {
  const char* name;
  const Array* array;
};
template <size_t count>
std::array<Array::Rows, count> like_rows(const NamedArray (&arrays)[count]) {
  bool all_contiguous = true;
  for (const NamedArray& named : arrays) all_contiguous = all_contiguous && named.array->contiguous();
  std::array<Array::Rows, count> found;
  for (size_t i = 0; i < count; ++i) {
    const int64_t size = arrays[i].array->size();
    found[i] = all_contiguous ? Array::Rows{1, size, size} : arrays[i].array->rows(arrays[i].name);
  }
  return found;
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape);

// The elements of a contiguous array of the given type, shape and device, or std::invalid_argument naming the
// argument, what it is and what it must be.
float* floats(const char* name, const Array& array);
float* floats(const char* name, const Array& array, const std::vector<int64_t>& shape);
const int32_t* int32s(const char* name, const Array& array, const std::vector<int64_t>& shape);
uint8_t* bytes(const char* name, const Array& array, const std::vector<int64_t>& shape);
// The first element of an array that need not be contiguous.
float* strided_floats(const char* name, const Array& array, const std::vector<int64_t>& shape);

// Throws std::invalid_argument unless `array` has `rank` axes, none of them empty.
void require_rank(const char* name, const Array& array, size_t rank, const char* axes);

}  // namespace pyalexnet
