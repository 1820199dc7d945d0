#include "kernels/add.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

void register_add(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "add_slices",
      [](const Array& out, const Array& a, const Array& b, const Stream& stream) {
        float* to = strided_floats("out", out, a.shape);
        const float* first = strided_floats("a", a, a.shape);
        const float* second = strided_floats("b", b, a.shape);
        const auto [out_rows, a_rows, b_rows] = like_rows({{"out", &out}, {"a", &a}, {"b", &b}});
        add_slices(to, out_rows.pitch, first, a_rows.pitch, second, b_rows.pitch, a_rows.rows, a_rows.columns,
                   stream.on(out, a, b));
      },
      "out"_a, "a"_a, "b"_a, "stream"_a);

  define_for_arguments(module, "add_slices_cost",
                       [](const OwnArguments& own) { return add_slices_cost(own.rows("out"), own.columns("out")); });
}

}  // namespace pyalexnet
