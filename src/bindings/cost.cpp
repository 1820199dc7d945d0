#include "device/cost.h"

#include "bindings/register.h"

namespace py = pybind11;

namespace pyalexnet {

void register_cost(py::module_& module) {
  py::class_<Cost>(module, "Cost", py::module_local())
      .def_readonly("flops", &Cost::flops)
      .def_readonly("bytes", &Cost::bytes);
}

}  // namespace pyalexnet
