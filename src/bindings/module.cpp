#include "bindings/register.h"
#include "device/check.h"
#include "device/cost.h"

namespace py = pybind11;

PYBIND11_MODULE(PYALEXNET_MODULE_NAME, module) {
  using namespace pyalexnet;
  module.doc() = "pyalexnet's kernels, compiled for one target. Use them through pyalexnet.ops.";

  py::register_exception_translator([](std::exception_ptr thrown) {
    const auto raise = [](const char* name, const std::exception& error) {
      py::set_error(py::module_::import("pyalexnet.errors").attr(name), error.what());
    };
    try {
      std::rethrow_exception(thrown);
    } catch (const OutOfMemory& error) {
      raise("OutOfMemoryError", error);
    } catch (const CudaError& error) {
      raise("CudaError", error);
    }
  });

  py::class_<Cost>(module, "Cost", py::module_local()).def_readonly("flops", &Cost::flops).def_readonly("bytes", &Cost::bytes);

  register_array(module);
  register_runtime(module);
  register_virtual_devices(module);
  register_exchange(module);
  register_conv(module);
  register_linear(module);
  register_relu(module);
  register_lrn(module);
  register_maxpool(module);
  register_dropout(module);
  register_softmax(module);
  register_sgd(module);
  register_augment(module);
  register_add(module);
  register_peak(module);
}
