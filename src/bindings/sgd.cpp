#include "kernels/sgd.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

void register_sgd(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "sgd_step",
      [](const Array& w, const Array& v, const Array& g, double lr, double momentum, double weight_decay,
         const Stream& stream) {
        const Sgd sgd{.lr = static_cast<float>(lr),
                      .momentum = static_cast<float>(momentum),
                      .weight_decay = static_cast<float>(weight_decay)};
        sgd_step(floats("w", w), floats("v", v, w.shape), floats("g", g, w.shape), w.size(), sgd, stream.on(w, v, g));
      },
      "w"_a, "v"_a, "g"_a, "lr"_a, "momentum"_a, "weight_decay"_a, "stream"_a);

  define_for_arguments(module, "sgd_step_cost",
                       [](const OwnArguments& own) { return sgd_step_cost(own.elements("w")); });
}

}  // namespace pyalexnet
