#include "bindings/maxpool.h"

#include <pybind11/stl.h>

#include "bindings/register.h"
#include "device/stream.h"

namespace pyalexnet {

MaxPool pool_over(const Shape& x, int64_t kernel, int64_t stride, int64_t padding) {
  require(x.size() == 4, "x has shape ", shape_text(x), "; it must have 4 axes (images, height, width, channels)");
  const MaxPool pool{.images = x[0],
                     .height = x[1],
                     .width = x[2],
                     .channels = x[3],
                     .kernel = kernel,
                     .stride = stride,
                     .padding = padding};
  check_maxpool(pool);
  return pool;
}

MaxPool pool_over(const OwnArguments& own, const char* array) {
  return pool_over(own.shape(array), own.integer("kernel"), own.integer("stride"), own.integer("padding"));
}

Shape output_shape(const MaxPool& pool) {
  return {pool.images, pool.output_height(), pool.output_width(), pool.channels};
}

void register_maxpool(pybind11::module_& module) {
  using namespace pybind11::literals;

  module.def(
      "maxpool_output_shape",
      [](const Shape& x_shape, int64_t kernel, int64_t stride, int64_t padding) {
        return output_shape(pool_over(x_shape, kernel, stride, padding));
      },
      "x_shape"_a, "kernel"_a, "stride"_a, "padding"_a);

  module.def(
      "maxpool_forward",
      [](const Array& y, const Array& x, int64_t kernel, int64_t stride, int64_t padding, const Stream& stream) {
        const MaxPool pool = pool_over(x.shape, kernel, stride, padding);
        maxpool_forward(strided_floats("y", y, output_shape(pool)), y.rows("y").pitch, floats("x", x), pool,
                        stream.on(y, x));
      },
      "y"_a, "x"_a, "kernel"_a, "stride"_a, "padding"_a, "stream"_a);

  module.def(
      "maxpool_backward",
      [](const Array& dx, const Array& dy, const Array& x, int64_t kernel, int64_t stride, int64_t padding,
         bool x_from_relu, const Stream& stream) {
        MaxPool pool = pool_over(x.shape, kernel, stride, padding);
        pool.x_from_relu = x_from_relu;
        maxpool_backward(floats("dx", dx, x.shape), strided_floats("dy", dy, output_shape(pool)), dy.rows("dy").pitch,
                         floats("x", x), pool, stream.on(dx, dy, x));
      },
      "dx"_a, "dy"_a, "x"_a, "kernel"_a, "stride"_a, "padding"_a, "x_from_relu"_a, "stream"_a);

  module.def(
      "keeps_winners",
      [](const Shape& x_shape, int64_t kernel, int64_t stride, int64_t padding) {
        return keeps_winners(pool_over(x_shape, kernel, stride, padding));
      },
      "x_shape"_a, "kernel"_a, "stride"_a, "padding"_a);

  module.def(
      "maxpool_forward_with_winners",
      [](const Array& y, const Array& winners, const Array& x, int64_t kernel, int64_t stride, int64_t padding,
         bool x_from_relu, const Stream& stream) {
        MaxPool pool = pool_over(x.shape, kernel, stride, padding);
        pool.x_from_relu = x_from_relu;
        const Shape pooled = output_shape(pool);
        maxpool_forward_with_winners(strided_floats("y", y, pooled), y.rows("y").pitch,
                                     bytes("winners", winners, pooled), floats("x", x), pool, stream.on(y, winners, x));
      },
      "y"_a, "winners"_a, "x"_a, "kernel"_a, "stride"_a, "padding"_a, "x_from_relu"_a, "stream"_a);

  module.def(
      "maxpool_backward_by_winners",
      [](const Array& dx, const Array& dy, const Array& winners, int64_t kernel, int64_t stride, int64_t padding,
         const Stream& stream) {
        const MaxPool pool = pool_over(dx.shape, kernel, stride, padding);
        const Shape pooled = output_shape(pool);
        maxpool_backward_by_winners(floats("dx", dx), strided_floats("dy", dy, pooled), dy.rows("dy").pitch,
                                    bytes("winners", winners, pooled), pool, stream.on(dx, dy, winners));
      },
      "dx"_a, "dy"_a, "winners"_a, "kernel"_a, "stride"_a, "padding"_a, "stream"_a);

  const auto define_cost = [&module](const char* name, const char* pooled, Cost (*of)(const MaxPool&)) {
    define_for_arguments(module, name, [of, pooled](const OwnArguments& own) { return of(pool_over(own, pooled)); });
  };
  define_cost("maxpool_forward_cost", "x", &maxpool_forward_cost);
  define_cost("maxpool_backward_cost", "x", &maxpool_backward_cost);
  define_cost("maxpool_forward_with_winners_cost", "x", &maxpool_forward_with_winners_cost);
  define_cost("maxpool_backward_by_winners_cost", "dx", &maxpool_backward_by_winners_cost);
}

}  // namespace pyalexnet
