#include "kernels/lrn.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

Lrn lrn_over(const Array& x, int64_t size, double alpha, double beta, double k, bool x_from_relu = false) {
  const Array::Rows rows = x.rows("x");
  return {
      .rows = rows.rows, .channels = rows.columns, .normalisation = {size, alpha, beta, k}, .x_from_relu = x_from_relu};
}

}  // namespace

void register_lrn(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "lrn_forward",
      [](const Array& y, const Array& x, int64_t size, double alpha, double beta, double k, const Stream& stream) {
        const Lrn lrn = lrn_over(x, size, alpha, beta, k);
        lrn_forward(strided_floats("y", y, x.shape), y.rows("y").pitch, floats("x", x), lrn, stream.on(y, x));
      },
      "y"_a, "x"_a, "size"_a, "alpha"_a, "beta"_a, "k"_a, "stream"_a);

  module.def(
      "lrn_backward",
      [](const Array& dx, const Array& dy, const Array& x, int64_t size, double alpha, double beta, double k,
         bool x_from_relu, const Stream& stream) {
        const Lrn lrn = lrn_over(x, size, alpha, beta, k, x_from_relu);
        lrn_backward(floats("dx", dx, x.shape), strided_floats("dy", dy, x.shape), dy.rows("dy").pitch, floats("x", x),
                     lrn, stream.on(dx, dy, x));
      },
      "dx"_a, "dy"_a, "x"_a, "size"_a, "alpha"_a, "beta"_a, "k"_a, "x_from_relu"_a, "stream"_a);

  define_for_arguments(module, "lrn_forward_cost",
                       [](const OwnArguments& own) { return lrn_forward_cost(own.rows("x"), own.columns("x")); });
  define_for_arguments(module, "lrn_backward_cost",
                       [](const OwnArguments& own) { return lrn_backward_cost(own.rows("x"), own.columns("x")); });
}

}  // namespace pyalexnet
