#include "kernels/relu.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

void register_relu(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "relu_forward",
      [](const Array& y, const Array& x, const Stream& stream) {
        relu_forward(floats("y", y, x.shape), floats("x", x), x.size(), stream.on(y, x));
      },
      "y"_a, "x"_a, "stream"_a);

  module.def(
      "relu_backward",
      [](const Array& dx, const Array& dy, const Array& y, float scale, const Stream& stream) {
        float* to = strided_floats("dx", dx, dy.shape);
        const float* from = strided_floats("dy", dy, dy.shape);
        const float* test = strided_floats("y", y, dy.shape);
        const auto [dx_rows, dy_rows, y_rows] = like_rows({{"dx", &dx}, {"dy", &dy}, {"y", &y}});
        relu_backward(to, dx_rows.pitch, from, dy_rows.pitch, test, y_rows.pitch, dy_rows.rows, dy_rows.columns, scale,
                      stream.on(dx, dy, y));
      },
      "dx"_a, "dy"_a, "y"_a, "scale"_a, "stream"_a);

  define_for_arguments(module, "relu_forward_cost",
                       [](const OwnArguments& own) { return relu_forward_cost(own.elements("y")); });
  define_for_arguments(module, "relu_backward_cost",
                       [](const OwnArguments& own) { return relu_backward_cost(own.elements("y")); });
}

}  // namespace pyalexnet
