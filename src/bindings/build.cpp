#include "bindings/register.h"
#include "source_digest.h"

namespace pyalexnet {

void register_build(pybind11::module_& module) {
  // By which pyalexnet/device/natives.py knows whether a module was built from the sources that lie beside it.
  module.attr("source_digest") = PYALEXNET_SOURCE_DIGEST;
}

}  // namespace pyalexnet
