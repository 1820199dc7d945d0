#include "kernels/peak.cuh"

#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

void register_peak(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "multiply_add_peak",
      [](const Array& sink, int64_t rounds, const Stream& stream) {
        require_rank("sink", sink, 1, "(blocks)");
        multiply_add_peak(floats("sink", sink), sink.size(), rounds, stream.on(sink));
      },
      "sink"_a, "rounds"_a, "stream"_a);

  module.def("multiply_add_peak_cost", &multiply_add_peak_cost, "blocks"_a, "rounds"_a);
}

}  // namespace pyalexnet
