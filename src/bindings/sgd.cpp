#include "kernels/sgd.cuh"

#include <pybind11/stl.h>

#include <functional>
#include <numeric>

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "bindings/setting.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

using Arrays = std::vector<std::reference_wrapper<const Array>>;

void sgd_step_of(const Arrays& w, const Arrays& v, const Arrays& g, const Arrays& rates, const Stream& stream) {
  require(v.size() == w.size() && g.size() == w.size() && rates.size() == w.size(), "w, v, g and rates have ", w.size(),
          ", ", v.size(), ", ", g.size(), " and ", rates.size(), " items; they must have as many of each");
  std::vector<SgdArray> arrays;
  for (size_t i = 0; i < w.size(); ++i) {
    const Array& weights = w[i];
    stream.on(weights, v[i].get(), g[i].get());
    arrays.push_back({.w = floats("w", weights),
                      .v = floats("v", v[i], weights.shape),
                      .g = floats("g", g[i], weights.shape),
                      .count = weights.size(),
                      .sgd = setting<Sgd>("rates", rates[i], DType::float32, {3}, stream)});
  }
  sgd_step(arrays, stream.on());
}

}  // namespace

void register_sgd(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def("sgd_step", &sgd_step_of, "w"_a, "v"_a, "g"_a, "rates"_a, "stream"_a);
  module.def("sgd_arrays_a_launch", &sgd_arrays_a_launch);

  define_for_arguments(module, "sgd_step_cost", [](const OwnArguments& own) {
    const std::vector<int64_t> counts = own.elements_of_each("w");
    return sgd_step_cost(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  });
}

}  // namespace pyalexnet
