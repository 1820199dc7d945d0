#include "device/array.h"

#include <algorithm>

namespace pyalexnet {

int64_t item_bytes(DType dtype) {
  return dtype == DType::uint8 ? 1 : 4;
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return "float32";
    case DType::int32:
      return "int32";
    case DType::uint8:
      return "uint8";
  }
  throw std::logic_error("dtype_name: unknown dtype");
}

DType dtype_named(const std::string& name) {
  for (DType dtype : {DType::float32, DType::int32, DType::uint8}) {
    if (name == dtype_name(dtype)) return dtype;
  }
  throw std::invalid_argument("dtype is " + name + "; it must be float32, int32 or uint8");
}

int64_t Array::size() const {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

bool Array::contiguous() const {
  int64_t expected = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

Array Array::slice_last(int64_t start, int64_t stop) const {
  require(!shape.empty() && 0 <= start && start < stop && stop <= shape.back(), "slice_last: [", start, ", ", stop,
          ") is not inside the last axis of shape ", shape_text(shape));
  Array slice = *this;
  slice.data = static_cast<char*>(data) + start * strides.back() * item_bytes(dtype);
  slice.shape.back() = stop - start;
  return slice;
}

Array::Rows Array::rows(const char* name) const {
  require(!shape.empty(), name, " is a scalar; it must have at least one axis");
  require(strides.back() == 1 || shape.back() == 1, name, " has stride ", strides.back(),
          " along its last axis; it must be 1");
  int64_t rows = 1, pitch = 0;
  for (size_t axis = shape.size() - 1; axis-- > 0;) {
    if (shape[axis] == 1) continue;
    if (pitch == 0) pitch = strides[axis];
    require(strides[axis] == rows * pitch, name, " of shape ", shape_text(shape), " has strides ", shape_text(strides),
            "; its rows must lie at one distance from each other");
    rows *= shape[axis];
  }
  return {rows, shape.back(), pitch == 0 ? shape.back() : pitch};
}

Memory::Memory(int device, int64_t bytes) : device(device), bytes(bytes) {
  require(bytes > 0, "bytes is ", bytes, "; it must be at least 1");
  PYALEXNET_CHECK_CUDA(cudaSetDevice(device));
  void* pointer = nullptr;
  const std::string call = "cudaMalloc of " + std::to_string(bytes) + " bytes on device " + std::to_string(device);
  check_cuda(cudaMalloc(&pointer, static_cast<size_t>(bytes)), call.c_str());
  start = std::shared_ptr<void>(pointer, [device](void* memory) {
    cudaSetDevice(device);
    cudaFree(memory);
  });
}

std::shared_ptr<void> pinned_memory(int64_t bytes) {
  require(bytes > 0, "bytes is ", bytes, "; it must be at least 1");
  void* pointer = nullptr;
  const std::string call = "cudaHostAlloc of " + std::to_string(bytes) + " bytes";
  check_cuda(cudaHostAlloc(&pointer, static_cast<size_t>(bytes), cudaHostAllocPortable), call.c_str());
  return {pointer, [](void* memory) { cudaFreeHost(memory); }};
}

Array Memory::array(int64_t offset_bytes, std::vector<int64_t> shape, DType dtype, std::vector<int64_t> strides) const {
  if (strides.empty()) strides = contiguous_strides(shape);
  require(strides.size() == shape.size(), "strides has ", strides.size(), " axes; shape has ", shape.size());
  int64_t last = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    require(shape[axis] > 0 && strides[axis] >= 0, "shape ", shape_text(shape), " with strides ", shape_text(strides),
            ": extents must be at least 1 and strides at least 0");
    last += (shape[axis] - 1) * strides[axis];
  }
  require(offset_bytes >= 0 && offset_bytes % item_bytes(dtype) == 0 &&
              offset_bytes + (last + 1) * item_bytes(dtype) <= bytes,
          "an array of shape ", shape_text(shape), " at byte ", offset_bytes, " does not lie inside ", bytes,
          " bytes of device memory");
  return {start, static_cast<char*>(start.get()) + offset_bytes, dtype, device, std::move(shape), std::move(strides)};
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

namespace {

void require_dtype(const char* name, const Array& array, DType dtype) {
  require(array.dtype == dtype, name, " has dtype ", dtype_name(array.dtype), "; it must be ", dtype_name(dtype));
  require(array.device != kHost, name, " is in host memory; it must be on a device");
}

void require_shape(const char* name, const Array& array, const std::vector<int64_t>& shape) {
  require(array.shape == shape, name, " has shape ", shape_text(array.shape), "; it must be ", shape_text(shape));
}

void require_contiguous(const char* name, const Array& array) {
  require(array.contiguous(), name, " of shape ", shape_text(array.shape), " has strides ", shape_text(array.strides),
          "; it must be contiguous");
}

}  // namespace

float* floats(const char* name, const Array& array) {
  require_dtype(name, array, DType::float32);
  require_contiguous(name, array);
  require(array.size() > 0, name, " of shape ", shape_text(array.shape), " is empty");
  return static_cast<float*>(array.data);
}

float* floats(const char* name, const Array& array, const std::vector<int64_t>& shape) {
  require_shape(name, array, shape);
  return floats(name, array);
}

const int32_t* int32s(const char* name, const Array& array, const std::vector<int64_t>& shape) {
  require_dtype(name, array, DType::int32);
  require_shape(name, array, shape);
  require_contiguous(name, array);
  return static_cast<const int32_t*>(array.data);
}

uint8_t* bytes(const char* name, const Array& array, const std::vector<int64_t>& shape) {
  require_dtype(name, array, DType::uint8);
  require_shape(name, array, shape);
  require_contiguous(name, array);
  return static_cast<uint8_t*>(array.data);
}

float* strided_floats(const char* name, const Array& array, const std::vector<int64_t>& shape) {
  require_dtype(name, array, DType::float32);
  require_shape(name, array, shape);
  require(array.size() > 0, name, " of shape ", shape_text(array.shape), " is empty");
  return static_cast<float*>(array.data);
}

void require_rank(const char* name, const Array& array, size_t rank, const char* axes) {
  require(array.shape.size() == rank, name, " has shape ", shape_text(array.shape), "; it must have ", rank, " axes ",
          axes);
  require(std::ranges::all_of(array.shape, [](int64_t extent) { return extent > 0; }), name, " of shape ",
          shape_text(array.shape), " is empty");
}

}  // namespace pyalexnet
