#include "bindings/dlpack.h"

#include <cstring>

namespace py = pybind11;

namespace pyalexnet {

namespace {

// The structures of DLPack's C ABI.
struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};

struct DLDataType {
  uint8_t code;  // 0 signed integer, 1 unsigned integer, 2 floating point
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null means contiguous
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};

DLDataType dlpack_type(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return {2, 32, 1};
    case DType::int32:
      return {0, 32, 1};
    case DType::uint8:
      return {1, 8, 1};
  }
  throw std::logic_error("dlpack_type: unknown dtype");
}

DType dtype_of(DLDataType type) {
  for (DType dtype : {DType::float32, DType::int32, DType::uint8}) {
    const DLDataType known = dlpack_type(dtype);
    if (type.code == known.code && type.bits == known.bits && type.lanes == known.lanes) return dtype;
  }
  throw std::invalid_argument("the DLPack tensor has type code " + std::to_string(type.code) + " with " +
                              std::to_string(type.bits) + " bits; it must be float32, int32 or uint8");
}

struct Export {
  Array array;
  DLManagedTensor managed;
};

constexpr const char* kFresh = "dltensor";
constexpr const char* kUsed = "used_dltensor";

}  // namespace

py::capsule to_dlpack(const Array& array, int device_type) {
  auto holder = std::make_unique<Export>();
  holder->array = array;
  holder->managed = {.dl_tensor = {.data = array.data,
                                   .device = {device_type, device_type == kDlpackCpu ? 0 : array.device},
                                   .ndim = static_cast<int32_t>(array.shape.size()),
                                   .dtype = dlpack_type(array.dtype),
                                   .shape = holder->array.shape.data(),
                                   .strides = holder->array.strides.data(),
                                   .byte_offset = 0},
                     .manager_ctx = holder.get(),
                     .deleter = [](DLManagedTensor* managed) { delete static_cast<Export*>(managed->manager_ctx); }};
  py::capsule capsule(&holder->managed, kFresh, [](PyObject* object) {
    if (!PyCapsule_IsValid(object, kFresh)) return;  // the consumer has taken it over
    auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(object, kFresh));
    managed->deleter(managed);
  });
  holder.release();
  return capsule;
}

Array from_dlpack(py::capsule capsule, int device_type) {
  require(PyCapsule_IsValid(capsule.ptr(), kFresh), "the DLPack capsule is not a fresh 'dltensor'");
  auto* managed = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), kFresh));
  const DLTensor& tensor = managed->dl_tensor;
  require(tensor.device.device_type == device_type, "the DLPack tensor is on device type ", tensor.device.device_type,
          "; it must be on ", device_type);
  Array array;
  array.dtype = dtype_of(tensor.dtype);
  array.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  array.device = tensor.device.device_id;
  array.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  if (tensor.strides == nullptr) {
    array.strides = contiguous_strides(array.shape);
  } else {
    array.strides.assign(tensor.strides, tensor.strides + tensor.ndim);
  }
  array.owner = std::shared_ptr<DLManagedTensor>(managed, [](DLManagedTensor* owned) {
    if (owned->deleter == nullptr || !Py_IsInitialized()) return;
    py::gil_scoped_acquire gil;  // the producer may be a Python object
    owned->deleter(owned);
  });
  PyCapsule_SetName(capsule.ptr(), kUsed);
  return array;
}

}  // namespace pyalexnet
