#include "kernels/lars.cuh"

#include <pybind11/stl.h>

#include <functional>
#include <numeric>

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "bindings/setting.h"
#include "bindings/workspace.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

using Arrays = std::vector<std::reference_wrapper<const Array>>;

void lars_rates_of(const Arrays& w, const Arrays& g, const Arrays& rates, const Arrays& scaled, const Array& trust,
                   const Array& workspace, const Stream& stream) {
  require(g.size() == w.size() && rates.size() == w.size() && scaled.size() == w.size(), "w, g, rates and scaled have ",
          w.size(), ", ", g.size(), ", ", rates.size(), " and ", scaled.size(),
          " items; they must have as many of each");
  std::vector<LarsArray> arrays;
  std::vector<int64_t> counts;
  for (size_t i = 0; i < w.size(); ++i) {
    const Array& weights = w[i];
    stream.on(weights, g[i].get(), scaled[i].get());
    arrays.push_back({.w = floats("w", weights),
                      .g = floats("g", g[i], weights.shape),
                      .count = weights.size(),
                      .sgd = setting<Sgd>("rates", rates[i], DType::float32, {3}, stream),
                      .scaled = reinterpret_cast<Sgd*>(floats("scaled", scaled[i], {3}))});
    counts.push_back(weights.size());
  }
  const int64_t bytes = lars_rates_workspace_floats(counts) * static_cast<int64_t>(sizeof(float));
  lars_rates(arrays, setting<float>("trust", trust, DType::float32, {1}, stream),
             static_cast<float*>(workspace_memory(workspace, bytes)), stream.on(workspace));
}

}  // namespace

void register_lars(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def("lars_rates", &lars_rates_of, "w"_a, "g"_a, "rates"_a, "scaled"_a, "trust"_a, "workspace"_a, "stream"_a);

  define_for_arguments(module, "lars_rates_workspace_bytes", [](const OwnArguments& own) {
    return lars_rates_workspace_floats(own.elements_of_each("w")) * static_cast<int64_t>(sizeof(float));
  });
  define_for_arguments(module, "lars_rates_cost", [](const OwnArguments& own) {
    const std::vector<int64_t> counts = own.elements_of_each("w");
    return lars_rates_cost(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  });
}

}  // namespace pyalexnet
