#include "kernels/tanh.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

void register_tanh(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "tanh_forward",
      [](const Array& y, const Array& x, const Stream& stream) {
        float* to = strided_floats("y", y, x.shape);
        const float* from = strided_floats("x", x, x.shape);
        const auto [y_rows, x_rows] = like_rows({{"y", &y}, {"x", &x}});
        tanh_forward(to, y_rows.pitch, from, x_rows.pitch, x_rows.rows, x_rows.columns, stream.on(y, x));
      },
      "y"_a, "x"_a, "stream"_a);

  module.def(
      "tanh_backward",
      [](const Array& dx, const Array& dy, const Array& y, const Stream& stream) {
        float* to = strided_floats("dx", dx, dy.shape);
        const float* from = strided_floats("dy", dy, dy.shape);
        const float* value = strided_floats("y", y, dy.shape);
        const auto [dx_rows, dy_rows, y_rows] = like_rows({{"dx", &dx}, {"dy", &dy}, {"y", &y}});
        tanh_backward(to, dx_rows.pitch, from, dy_rows.pitch, value, y_rows.pitch, dy_rows.rows, dy_rows.columns,
                      stream.on(dx, dy, y));
      },
      "dx"_a, "dy"_a, "y"_a, "stream"_a);

  define_for_arguments(module, "tanh_forward_cost",
                       [](const OwnArguments& own) { return tanh_forward_cost(own.elements("y")); });
  define_for_arguments(module, "tanh_backward_cost",
                       [](const OwnArguments& own) { return tanh_backward_cost(own.elements("y")); });
}

}  // namespace pyalexnet
