// Devices, memory, streams, events and copies.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "bindings/dlpack.h"
#include "bindings/gil.h"
#include "bindings/register.h"
#include "device/stream.h"
#include "device/tensor_cores.h"

namespace py = pybind11;

namespace pyalexnet {

namespace {

// 0 where there is no driver or no device: that is an answer, not an error.
int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

py::dict device_info(int device) {
  cudaDeviceProp properties{};
  PYALEXNET_CHECK_CUDA(cudaGetDeviceProperties(&properties, device));
  PYALEXNET_CHECK_CUDA(cudaSetDevice(device));
  size_t free_bytes = 0, total_bytes = 0;
  PYALEXNET_CHECK_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  py::dict info;
  info["name"] = std::string(properties.name);
  info["multiprocessors"] = properties.multiProcessorCount;
  info["total_bytes"] = total_bytes;
  info["free_bytes"] = free_bytes;
  info["tensor_cores"] = has_tensor_cores(device);
  return info;
}

bool can_access_peer(int device, int peer) {
  int can_access = 0;
  PYALEXNET_CHECK_CUDA(cudaDeviceCanAccessPeer(&can_access, device, peer));
  return can_access != 0;
}

// The device whose memory an address lies in.
int device_of(uintptr_t address) {
  cudaPointerAttributes attributes{};
  PYALEXNET_CHECK_CUDA(cudaPointerGetAttributes(&attributes, reinterpret_cast<const void*>(address)));
  require(attributes.type != cudaMemoryTypeUnregistered && attributes.type != cudaMemoryTypeHost, "address ", address,
          " does not lie in a device's memory");
  return attributes.device;
}

void synchronize_device(int device) {
  PYALEXNET_CHECK_CUDA(cudaSetDevice(device));
  PYALEXNET_CHECK_CUDA(cudaDeviceSynchronize());
}

// Memory that something in Python owns, as an Array of `device`. The owner's reference is dropped under the
// GIL.
Array borrow(py::object owner, uintptr_t address, const std::string& dtype, std::vector<int64_t> shape,
             std::vector<int64_t> strides, int device) {
  require(shape.size() == strides.size(), "strides has ", strides.size(), " axes; shape has ", shape.size());
  const auto release = [](py::object* held) {
    if (!Py_IsInitialized()) return;
    py::gil_scoped_acquire gil;
    delete held;
  };
  return {std::shared_ptr<void>(std::shared_ptr<py::object>(new py::object(std::move(owner)), release)),
          reinterpret_cast<void*>(address),
          dtype_named(dtype),
          device,
          std::move(shape),
          std::move(strides)};
}

// Page-locked host memory as Python's buffer protocol shows it.
struct PinnedMemory {
  explicit PinnedMemory(int64_t bytes) : start(pinned_memory(bytes)), bytes(bytes) {}
  std::shared_ptr<void> start;
  int64_t bytes;
};

}  // namespace

void register_array(py::module_& module) {
  using namespace pybind11::literals;

  py::class_<Array>(module, "Array", py::module_local())
      .def_readonly("shape", &Array::shape)
      .def_readonly("strides", &Array::strides)
      .def_readonly("device", &Array::device)
      .def_property_readonly("address", [](const Array& array) { return reinterpret_cast<uintptr_t>(array.data); })
      .def_property_readonly("dtype", [](const Array& array) { return dtype_name(array.dtype); })
      .def_property_readonly("contiguous", &Array::contiguous)
      .def("slice_last", &Array::slice_last, "start"_a, "stop"_a)
      .def("to_dlpack", &to_dlpack, "device_type"_a, "versioned"_a, "copied"_a);

  module.def("borrow", &borrow, "owner"_a, "address"_a, "dtype"_a, "shape"_a, "strides"_a, "device"_a);

  py::class_<DlpackArray>(module, "DlpackArray", py::module_local())
      .def_readonly("device_type", &DlpackArray::device_type)
      .def_readonly("device_id", &DlpackArray::device_id)
      .def_readonly("address", &DlpackArray::address)
      .def_readonly("type_code", &DlpackArray::type_code)
      .def_readonly("type_bits", &DlpackArray::type_bits)
      .def_readonly("type_lanes", &DlpackArray::type_lanes)
      .def_readonly("shape", &DlpackArray::shape)
      .def_readonly("strides", &DlpackArray::strides)
      .def_readonly("read_only", &DlpackArray::read_only);
  module.def("from_dlpack", &from_dlpack, "capsule"_a);

  py::class_<Memory>(module, "Memory", py::module_local())
      .def(py::init<int, int64_t>(), "device"_a, "bytes"_a)
      .def_readonly("device", &Memory::device)
      .def_readonly("bytes", &Memory::bytes)
      .def(
          "array",
          [](const Memory& memory, int64_t offset_bytes, std::vector<int64_t> shape, const std::string& dtype,
             std::vector<int64_t> strides) {
            return memory.array(offset_bytes, std::move(shape), dtype_named(dtype), std::move(strides));
          },
          "offset_bytes"_a, "shape"_a, "dtype"_a = "float32", "strides"_a = std::vector<int64_t>{});

  py::class_<PinnedMemory>(module, "PinnedMemory", py::module_local(), py::buffer_protocol())
      .def(py::init<int64_t>(), "bytes"_a)
      .def_buffer([](PinnedMemory& memory) {
        return py::buffer_info(static_cast<uint8_t*>(memory.start.get()), memory.bytes);
      });
}

void register_runtime(py::module_& module) {
  using namespace pybind11::literals;
  using release_gil = py::call_guard<GilReleased>;

  module.def("device_count", &device_count);
  module.def(
      "require_precision",
      [](const std::string& precision, int device) { require_precision(precision_named(precision), device); },
      "precision"_a, "device"_a);
  module.def("device_info", &device_info, "device"_a);
  module.def("can_access_peer", &can_access_peer, "device"_a, "peer"_a);
  module.def("device_of", &device_of, "address"_a);
  module.def("synchronize_device", &synchronize_device, "device"_a, release_gil());

  py::class_<Event>(module, "Event", py::module_local())
      .def(py::init<int>(), "device"_a)
      .def("synchronize", &Event::synchronize, release_gil())
      .def("elapsed_ms_since", &Event::elapsed_ms_since, "start"_a);

  py::class_<Stream>(module, "Stream", py::module_local())
      .def(py::init<int>(), "device"_a)
      .def_readonly("device", &Stream::device)
      .def("record", &Stream::record, "event"_a)
      .def("wait", &Stream::wait, "event"_a)
      .def("synchronize", &Stream::synchronize, release_gil());

  module.def("copy", &copy, "dst"_a, "src"_a, "stream"_a, release_gil());
}

}  // namespace pyalexnet
