// C++ exceptions as the Python exceptions of pyalexnet.errors.
#include "bindings/register.h"
#include "device/check.h"

namespace py = pybind11;

namespace pyalexnet {

void register_errors() {
  py::register_local_exception_translator([](std::exception_ptr thrown) {
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
}

}  // namespace pyalexnet
