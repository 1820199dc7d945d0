#include "bindings/dlpack.h"

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
  static constexpr const char* kFresh = "dltensor";
  static constexpr const char* kUsed = "used_dltensor";
};

struct DLPackVersion {
  uint32_t major, minor;
};

// From version 1 on; what a new minor version adds comes behind or changes no layout.
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;
  DLTensor dl_tensor;
  static constexpr const char* kFresh = "dltensor_versioned";
  static constexpr const char* kUsed = "used_dltensor_versioned";
};

constexpr uint64_t kReadOnly = 1, kCopied = 2;

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

// A new capsule for the array, of which it holds a copy. `fill` sets what only that kind of capsule has.
template <class Managed, class Fill>
py::capsule capsule_of(const Array& array, int device_type, Fill fill) {
  struct Export {
    Array array;
    Managed managed;
  };
  auto holder = std::make_unique<Export>(Export{array, {}});
  Managed& managed = holder->managed;
  managed.dl_tensor = {.data = array.data,
                       .device = {device_type, device_type == kDlpackCpu ? 0 : array.device},
                       .ndim = static_cast<int32_t>(array.shape.size()),
                       .dtype = dlpack_type(array.dtype),
                       .shape = holder->array.shape.data(),
                       .strides = holder->array.strides.data(),
                       .byte_offset = 0};
  managed.manager_ctx = holder.get();
  managed.deleter = [](Managed* done) { delete static_cast<Export*>(done->manager_ctx); };
  fill(managed);
  py::capsule capsule(&managed, Managed::kFresh, [](PyObject* object) {
    if (!PyCapsule_IsValid(object, Managed::kFresh)) return;  // the consumer has taken it over
    auto* unused = static_cast<Managed*>(PyCapsule_GetPointer(object, Managed::kFresh));
    unused->deleter(unused);
  });
  holder.release();
  return capsule;
}

template <class Managed>
DlpackArray take_over(const py::capsule& capsule, Managed* managed, bool read_only) {
  const DLTensor& tensor = managed->dl_tensor;
  DlpackArray array;
  array.device_type = tensor.device.device_type, array.device_id = tensor.device.device_id;
  array.address = reinterpret_cast<uintptr_t>(tensor.data) + tensor.byte_offset;
  array.type_code = tensor.dtype.code, array.type_bits = tensor.dtype.bits, array.type_lanes = tensor.dtype.lanes;
  array.shape.assign(tensor.shape, tensor.shape + tensor.ndim);
  if (tensor.strides == nullptr) {
    array.strides = contiguous_strides(array.shape);
  } else {
    array.strides.assign(tensor.strides, tensor.strides + tensor.ndim);
  }
  array.read_only = read_only;
  array.owner = std::shared_ptr<Managed>(managed, [](Managed* owned) {
    if (owned->deleter != nullptr) owned->deleter(owned);
  });
  PyCapsule_SetName(capsule.ptr(), Managed::kUsed);
  return array;
}

template <class Managed>
Managed* fresh(const py::capsule& capsule) {
  if (!PyCapsule_IsValid(capsule.ptr(), Managed::kFresh)) return nullptr;
  return static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), Managed::kFresh));
}

}  // namespace

py::capsule to_dlpack(const Array& array, int device_type, bool versioned, bool copied) {
  if (!versioned) return capsule_of<DLManagedTensor>(array, device_type, [](DLManagedTensor&) {});
  return capsule_of<DLManagedTensorVersioned>(array, device_type, [copied](DLManagedTensorVersioned& managed) {
    managed.version = {1, 0};
    managed.flags = copied ? kCopied : 0;
  });
}

DlpackArray from_dlpack(const py::capsule& capsule) {
  if (auto* managed = fresh<DLManagedTensorVersioned>(capsule)) {
    require(managed->version.major == 1, "the DLPack capsule is of version ", managed->version.major, ".",
            managed->version.minor, "; it must be of version 1");
    return take_over(capsule, managed, (managed->flags & kReadOnly) != 0);
  }
  auto* managed = fresh<DLManagedTensor>(capsule);
  require(managed != nullptr, "the DLPack capsule is no fresh 'dltensor_versioned' or 'dltensor'");
  return take_over(capsule, managed, false);
}

}  // namespace pyalexnet
