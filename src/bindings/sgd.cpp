#include "kernels/sgd.cuh"

#include <pybind11/stl.h>

#include <functional>

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

using Arrays = std::vector<std::reference_wrapper<const Array>>;

void sgd_step_of(const Arrays& w, const Arrays& v, const Arrays& g, const std::vector<double>& lr, double momentum,
                 const std::vector<double>& weight_decay, const Stream& stream) {
  for (const size_t count : {v.size(), g.size(), lr.size(), weight_decay.size()}) {
    require(count == w.size(), "w, v, g, lr and weight_decay have ", w.size(), ", ", v.size(), ", ", g.size(), ", ",
            lr.size(), " and ", weight_decay.size(), " items; they must have as many of each");
  }
  std::vector<SgdArray> arrays;
  for (size_t i = 0; i < w.size(); ++i) {
    const Array& weights = w[i];
    stream.on(weights, v[i].get(), g[i].get());
    arrays.push_back({.w = floats("w", weights),
                      .v = floats("v", v[i], weights.shape),
                      .g = floats("g", g[i], weights.shape),
                      .count = weights.size(),
                      .sgd = {.lr = static_cast<float>(lr[i]),
                              .momentum = static_cast<float>(momentum),
                              .weight_decay = static_cast<float>(weight_decay[i])}});
  }
  sgd_step(arrays, stream.on());
}

}  // namespace

void register_sgd(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def("sgd_step", &sgd_step_of, "w"_a, "v"_a, "g"_a, "lr"_a, "momentum"_a, "weight_decay"_a, "stream"_a);
  module.def("sgd_arrays_a_launch", &sgd_arrays_a_launch);

  define_for_arguments(module, "sgd_step_cost", [](const OwnArguments& own) {
    int64_t count = 0;
    for (const Array& w : own.object<Arrays>("w")) count += w.size();
    return sgd_step_cost(count);
  });
}

}  // namespace pyalexnet
