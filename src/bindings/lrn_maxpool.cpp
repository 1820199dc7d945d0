#include "kernels/lrn_maxpool.cuh"

#include <pybind11/stl.h>

#include "bindings/maxpool.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

void register_lrn_maxpool(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "fits_lrn_maxpool",
      [](const Shape& x_shape, int64_t size, double alpha, double beta, double k, int64_t kernel, int64_t stride,
         int64_t padding) {
        return fits_lrn_maxpool({pool_over(x_shape, kernel, stride, padding), {size, alpha, beta, k}});
      },
      "x_shape"_a, "size"_a, "alpha"_a, "beta"_a, "k"_a, "kernel"_a, "stride"_a, "padding"_a);

  module.def(
      "lrn_maxpool_forward",
      [](const Array& y, const Array* winners, const Array& x, int64_t size, double alpha, double beta, double k,
         int64_t kernel, int64_t stride, int64_t padding, const Stream& stream) {
        const LrnMaxPool both{pool_over(x.shape, kernel, stride, padding), {size, alpha, beta, k}};
        const Shape pooled = output_shape(both.pool);
        lrn_maxpool_forward(strided_floats("y", y, pooled), y.rows("y").pitch,
                            winners ? bytes("winners", *winners, pooled) : nullptr, floats("x", x), both,
                            winners ? stream.on(y, *winners, x) : stream.on(y, x));
      },
      "y"_a, "winners"_a.none(true), "x"_a, "size"_a, "alpha"_a, "beta"_a, "k"_a, "kernel"_a, "stride"_a, "padding"_a,
      "stream"_a);

  module.def(
      "lrn_maxpool_backward",
      [](const Array& dx, const Array& dy, const Array& winners, const Array& x, int64_t size, double alpha,
         double beta, double k, int64_t kernel, int64_t stride, int64_t padding, bool x_from_relu,
         const Stream& stream) {
        LrnMaxPool both{pool_over(x.shape, kernel, stride, padding), {size, alpha, beta, k}};
        both.pool.x_from_relu = x_from_relu;
        const Shape pooled = output_shape(both.pool);
        lrn_maxpool_backward(floats("dx", dx, x.shape), strided_floats("dy", dy, pooled), dy.rows("dy").pitch,
                             bytes("winners", winners, pooled), floats("x", x), both, stream.on(dx, dy, winners, x));
      },
      "dx"_a, "dy"_a, "winners"_a, "x"_a, "size"_a, "alpha"_a, "beta"_a, "k"_a, "kernel"_a, "stride"_a, "padding"_a,
      "x_from_relu"_a, "stream"_a);

  define_for_arguments(module, "lrn_maxpool_forward_cost", [](const OwnArguments& own) {
    return lrn_maxpool_forward_cost(pool_over(own, "x"), !own.is_none("winners"));
  });
  define_for_arguments(module, "lrn_maxpool_backward_cost",
                       [](const OwnArguments& own) { return lrn_maxpool_backward_cost(pool_over(own, "x")); });
}

}  // namespace pyalexnet
