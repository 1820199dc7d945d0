#include "bindings/register.h"

namespace py = pybind11;

PYBIND11_MODULE(PYALEXNET_MODULE_NAME, module) {
  using namespace pyalexnet;
  module.doc() = "pyalexnet's kernels, compiled for one target. Use them through pyalexnet.ops.";

  register_build(module);
  register_errors();
  register_cost(module);
  register_array(module);
  register_runtime(module);
  register_virtual_devices(module);
  register_exchange(module);
  register_graph(module);
  register_conv(module);
  register_linear(module);
  register_relu(module);
  register_tanh(module);
  register_lrn(module);
  register_lrn_in_map(module);
  register_maxpool(module);
  register_lrn_maxpool(module);
  register_dropout(module);
  register_softmax(module);
  register_sgd(module);
  register_lars(module);
  register_augment(module);
  register_add(module);
  register_peak(module);
}
