#include "kernels/lrn_in_map.cuh"

#include "bindings/own_arguments.h"
#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

namespace {

LrnInMap lrn_in_map_over(const Array& x, int64_t size, double alpha, double beta, double k) {
  require_rank("x", x, 4, "(images, height, width, channels)");
  return {.images = x.shape[0],
          .height = x.shape[1],
          .width = x.shape[2],
          .channels = x.shape[3],
          .normalisation = {size, alpha, beta, k}};
}

}  // namespace

void register_lrn_in_map(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "lrn_in_map_forward",
      [](const Array& y, const Array& scale, const Array& x, int64_t size, double alpha, double beta, double k,
         const Stream& stream) {
        const LrnInMap lrn = lrn_in_map_over(x, size, alpha, beta, k);
        lrn_in_map_forward(strided_floats("y", y, x.shape), y.rows("y").pitch, floats("scale", scale, x.shape),
                           floats("x", x), lrn, stream.on(y, scale, x));
      },
      "y"_a, "scale"_a, "x"_a, "size"_a, "alpha"_a, "beta"_a, "k"_a, "stream"_a);

  module.def(
      "lrn_in_map_backward",
      [](const Array& dx, const Array& terms, const Array& dy, const Array& x, const Array& scale, int64_t size,
         double alpha, double beta, double k, const Stream& stream) {
        const LrnInMap lrn = lrn_in_map_over(x, size, alpha, beta, k);
        lrn_in_map_backward(floats("dx", dx, x.shape), floats("terms", terms, x.shape),
                            strided_floats("dy", dy, x.shape), dy.rows("dy").pitch, floats("x", x),
                            floats("scale", scale, x.shape), lrn, stream.on(dx, terms, dy, x, scale));
      },
      "dx"_a, "terms"_a, "dy"_a, "x"_a, "scale"_a, "size"_a, "alpha"_a, "beta"_a, "k"_a, "stream"_a);

  define_for_arguments(module, "lrn_in_map_forward_cost",
                       [](const OwnArguments& own) { return lrn_in_map_forward_cost(own.elements("x")); });
  define_for_arguments(module, "lrn_in_map_backward_cost",
                       [](const OwnArguments& own) { return lrn_in_map_backward_cost(own.elements("x")); });
}

}  // namespace pyalexnet
