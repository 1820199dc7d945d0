#include "device/graph.h"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include "bindings/register.h"

namespace py = pybind11;

namespace pyalexnet {

namespace {

std::unique_ptr<Graph> captured(const std::vector<std::reference_wrapper<const Stream>>& streams,
                                const std::function<void()>& work) {
  std::vector<const Stream*> pointers;
  for (const Stream& stream : streams) pointers.push_back(&stream);
  return std::make_unique<Graph>(pointers, work);
}

}  // namespace

void register_graph(py::module_& module) {
  using namespace pybind11::literals;

  py::class_<Graph>(module, "Graph", py::module_local())
      .def(py::init(&captured), "streams"_a, "work"_a, py::keep_alive<1, 2>())
      .def("launch", &Graph::launch);
}

}  // namespace pyalexnet
