#include "exchange/exchange.h"

#include "bindings/register.h"

namespace py = pybind11;

namespace pyalexnet {

void register_exchange(py::module_& module) {
  using namespace pybind11::literals;

  py::class_<Link>(module, "Link", py::module_local())
      .def(py::init<const Stream&, const Stream&, bool>(), "source"_a, "destination"_a, "peer_access"_a = true,
           py::keep_alive<1, 2>(), py::keep_alive<1, 3>())
      .def_property_readonly("peer", &Link::peer)
      .def("start", &Link::start, "to"_a, "from_"_a)
      .def("finish", &Link::finish);
}

}  // namespace pyalexnet
