#include "kernels/relu.cuh"

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
      [](const Array& dx, const Array& dy, const Array& y, const Stream& stream) {
        float* to = strided_floats("dx", dx, dy.shape);
        const float* from = strided_floats("dy", dy, dy.shape);
        const float* test = strided_floats("y", y, dy.shape);
        const auto [dx_rows, dy_rows, y_rows] = like_rows({{"dx", &dx}, {"dy", &dy}, {"y", &y}});
        relu_backward(to, dx_rows.pitch, from, dy_rows.pitch, test, y_rows.pitch, dy_rows.rows, dy_rows.columns,
                      stream.on(dx, dy, y));
      },
      "dx"_a, "dy"_a, "y"_a, "stream"_a);

  module.def("relu_forward_cost", &relu_forward_cost, "count"_a);
  module.def("relu_backward_cost", &relu_backward_cost, "count"_a);
}

}  // namespace pyalexnet
