// The table of contents of a native module: one function an operation, each in the file of its name.
#pragma once

#include <pybind11/pybind11.h>

namespace pyalexnet {

void register_errors();
void register_build(pybind11::module_& module);
void register_cost(pybind11::module_& module);
void register_array(pybind11::module_& module);
void register_runtime(pybind11::module_& module);
void register_virtual_devices(pybind11::module_& module);
void register_exchange(pybind11::module_& module);
void register_graph(pybind11::module_& module);
void register_conv(pybind11::module_& module);
void register_linear(pybind11::module_& module);
void register_relu(pybind11::module_& module);
void register_tanh(pybind11::module_& module);
void register_lrn(pybind11::module_& module);
void register_lrn_in_map(pybind11::module_& module);
void register_maxpool(pybind11::module_& module);
void register_lrn_maxpool(pybind11::module_& module);
void register_dropout(pybind11::module_& module);
void register_softmax(pybind11::module_& module);
void register_sgd(pybind11::module_& module);
void register_lars(pybind11::module_& module);
void register_augment(pybind11::module_& module);
void register_add(pybind11::module_& module);
void register_peak(pybind11::module_& module);

}  // namespace pyalexnet
